-- What is wrong now, who is told of it, and up to where was looked.

CREATE TABLE platform.alerts (
    alert_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key text NOT NULL,
    kind text NOT NULL,
    severity text NOT NULL CHECK (severity IN ('critical', 'warning', 'info')),
    title text NOT NULL,
    detail text NOT NULL,
    advice text NOT NULL,
    run_id text NOT NULL,
    places text [] NOT NULL,
    times integer NOT NULL,
    opened_at timestamptz NOT NULL,
    last_told_at timestamptz NOT NULL,
    closed_at timestamptz
);
CREATE UNIQUE INDEX alerts_open ON platform.alerts (key) WHERE closed_at IS NULL;
COMMENT ON TABLE platform.alerts IS
    'One row per alert from its opening to its close; of each key one at most is open. Never personal data.';
COMMENT ON COLUMN platform.alerts.places IS
    'Where it still fails: days of partitions, tables of lost freshness; a text without characters where it is about no single one.';

CREATE TABLE platform.alert_messages (
    message_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    alert_id bigint NOT NULL REFERENCES platform.alerts,
    channel text NOT NULL,
    event text NOT NULL CHECK (event IN ('opened', 'still', 'recovered')),
    created_at timestamptz NOT NULL,
    tries integer NOT NULL DEFAULT 0,
    next_try_at timestamptz NOT NULL,
    sent_at timestamptz,
    summed boolean NOT NULL DEFAULT false,
    given_up_at timestamptz
);
CREATE INDEX alert_messages_waiting ON platform.alert_messages (channel, message_id)
    WHERE sent_at IS NULL AND given_up_at IS NULL;
CREATE INDEX alert_messages_sent ON platform.alert_messages (channel, sent_at);
COMMENT ON TABLE platform.alert_messages IS
    'What each channel is told of alerts: written with the alert, sent afterwards, so that nothing is lost or told twice.';
COMMENT ON COLUMN platform.alert_messages.summed IS 'It was sent together with others, in one message, over the limit of its channel.';

CREATE TABLE platform.alert_cursors (
    name text PRIMARY KEY,
    position bigint NOT NULL
);
COMMENT ON TABLE platform.alert_cursors IS
    'The last check result and the last ended run that alerts looked at: the sensor and `data-platform alerts check` share it.';
