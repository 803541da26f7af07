-- Where deliveries come from: how their columns changed.

CREATE TABLE platform.schema_changes (
    change_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    asset text NOT NULL,
    partition_date date NOT NULL,
    column_name text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('new', 'missing', 'retyped')),
    before text NOT NULL,
    after text NOT NULL,
    run_id text NOT NULL,
    seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (asset, partition_date, column_name, kind, before, after)
);
COMMENT ON TABLE platform.schema_changes IS
    'The delivered columns that differ from those of the delivery before it: of each change the run that saw it first.';
