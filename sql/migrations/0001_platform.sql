-- The platform's own tables: what was published from which staging, and which parts of the marts are stale.

CREATE SCHEMA platform;
CREATE SCHEMA warehouse;
CREATE SCHEMA marts;

CREATE TABLE platform.settings (
    name text PRIMARY KEY,
    value text NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE platform.settings IS 'Settings that stored data depends on, recorded at first use.';

CREATE TABLE platform.load_ledger (
    load_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    asset text NOT NULL,
    partition_date date NOT NULL,
    run_id text NOT NULL,
    content_hash text NOT NULL,
    engine_path text NOT NULL,
    rows_delivered bigint NOT NULL,
    rows_staged bigint NOT NULL,
    rows_quarantined bigint NOT NULL,
    rows_duplicate bigint NOT NULL,
    sales bigint,
    returns bigint,
    tombstones bigint,
    superseded bigint,
    versions bigint,
    repeats bigint,
    replaced bigint,
    deletions bigint,
    sum_quantity numeric,
    sum_total_amount numeric,
    first_moment timestamptz,
    last_moment timestamptz,
    unknown_columns text NOT NULL DEFAULT '',
    started_at timestamptz NOT NULL,
    finished_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT delivery_balances CHECK (rows_delivered = rows_staged + rows_quarantined + rows_duplicate),
    CONSTRAINT lines_balance CHECK (rows_staged = sales + returns + tombstones + superseded),
    CONSTRAINT tellings_balance CHECK (rows_staged = versions + repeats + replaced + deletions)
);
CREATE INDEX load_ledger_newest ON platform.load_ledger (asset, partition_date, load_id DESC);
COMMENT ON TABLE platform.load_ledger IS
    'One row per published partition and publish, written in the publishing transaction; the newest row of a partition counts.';

CREATE TABLE platform.mart_stale (
    mark_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    mart text NOT NULL,
    date_key integer NOT NULL
);
CREATE INDEX mart_stale_mart ON platform.mart_stale (mart);
COMMENT ON TABLE platform.mart_stale IS
    'Order dates whose facts changed since the mart was refreshed. A refresh removes the marks it has worked off.';
