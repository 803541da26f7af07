-- What every check said of every partition, and what each staged partition looks like in figures.

CREATE TABLE platform.check_results (
    result_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    asset text NOT NULL,
    partition_date date,
    rule text NOT NULL,
    severity text NOT NULL CHECK (severity IN ('critical', 'warning', 'info')),
    passed boolean NOT NULL,
    value double precision,
    threshold text NOT NULL DEFAULT '',
    rows_judged bigint NOT NULL DEFAULT 0,
    rows_failed bigint NOT NULL DEFAULT 0,
    note text NOT NULL DEFAULT '',
    run_id text NOT NULL,
    checked_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX check_results_newest ON platform.check_results (asset, rule, partition_date DESC, result_id DESC);
COMMENT ON TABLE platform.check_results IS
    'One row per check, partition and run, also of runs that failed; the newest row of a partition counts. A check of no single partition has none.';
COMMENT ON COLUMN platform.check_results.value IS
    'The figure that was judged: the share of rows that fail where rows are judged, else the rule''s own measure.';
COMMENT ON COLUMN platform.check_results.note IS 'What was found, in a sentence; of a rule that could not be judged its error. Never personal data.';

CREATE TABLE platform.partition_profiles (
    asset text NOT NULL,
    partition_date date NOT NULL,
    content_hash text NOT NULL,
    profile jsonb NOT NULL,
    run_id text NOT NULL,
    profiled_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (asset, partition_date)
);
COMMENT ON TABLE platform.partition_profiles IS
    'Each staged partition in figures (nulls, distinct values, quantiles, shares): the history that drift is judged by.';
