-- What every step of every run cost, in seconds, rows and bytes; money is for prices.yaml to say.

CREATE TABLE platform.run_costs (
    cost_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run_id text NOT NULL,
    step text NOT NULL,
    asset text NOT NULL,
    layer text NOT NULL,
    outcome text NOT NULL CHECK (outcome IN ('succeeded', 'failed', 'retried')),
    started_at timestamptz NOT NULL,
    seconds numeric(14, 3) NOT NULL,
    cpu_seconds numeric(14, 3) NOT NULL,
    peak_memory_bytes bigint NOT NULL,
    rows bigint NOT NULL,
    rows_written bigint NOT NULL,
    bytes_read bigint NOT NULL,
    bytes_written bigint NOT NULL,
    storage_bytes bigint,
    storage_growth_bytes bigint,
    partition_dates date [] NOT NULL,
    partition_rows bigint [] NOT NULL,
    CONSTRAINT rows_by_partition CHECK (cardinality(partition_dates) = cardinality(partition_rows))
);
CREATE INDEX run_costs_newest ON platform.run_costs (asset, cost_id DESC);
COMMENT ON TABLE platform.run_costs IS
    'One row per step of a run, also of steps that failed. Both fact tables are one step, under fact_sales.';
COMMENT ON COLUMN platform.run_costs.cpu_seconds IS 'Of our process, all its threads; what Postgres computes is not in it.';
COMMENT ON COLUMN platform.run_costs.peak_memory_bytes IS 'The most that the process held since it began, of earlier steps as well.';
COMMENT ON COLUMN platform.run_costs.rows IS
    'Rows that it worked on: delivered, staged, published; of a mart the order lines (or orders) that it was computed from.';
COMMENT ON COLUMN platform.run_costs.rows_written IS 'Rows of files that were written anew; rows of tables inserted, updated, deleted.';
COMMENT ON COLUMN platform.run_costs.bytes_read IS 'Files read and what Postgres sent to COPY, as far as we see it.';
COMMENT ON COLUMN platform.run_costs.bytes_written IS 'Files written, and what we sent to Postgres by COPY; its write-ahead log is not in it.';
COMMENT ON COLUMN platform.run_costs.storage_bytes IS
    'What the asset takes up after the step: files of the lake with quarantine, tables with indexes. Null where it was not measured.';
COMMENT ON COLUMN platform.run_costs.storage_growth_bytes IS
    'By how much that is more than when it was measured before: all of it the first time, so that growth adds up to what there is.';
COMMENT ON COLUMN platform.run_costs.partition_rows IS 'The rows by partition, in the order of partition_dates.';

CREATE VIEW platform.run_costs_by_partition AS
SELECT
    c.cost_id,
    c.run_id,
    c.step,
    c.asset,
    c.layer,
    c.outcome,
    c.started_at,
    p.partition_date,
    p.rows,
    cardinality(c.partition_dates) > 1 AS spread,
    p.share,
    c.seconds * p.share AS seconds,
    c.cpu_seconds * p.share AS cpu_seconds,
    c.bytes_read * p.share AS bytes_read,
    c.bytes_written * p.share AS bytes_written,
    c.storage_growth_bytes * p.share AS storage_growth_bytes
FROM platform.run_costs AS c
CROSS JOIN LATERAL (
    SELECT
        u.partition_date,
        u.rows,
        CASE
            WHEN sum(u.rows) OVER () > 0 THEN u.rows / sum(u.rows) OVER ()
            ELSE 1.0 / count(*) OVER ()
        END AS share
    FROM unnest(c.partition_dates, c.partition_rows) AS u (partition_date, rows)
) AS p;
COMMENT ON VIEW platform.run_costs_by_partition IS
    'platform.run_costs by partition. A step over a range is measured as a whole: where spread is true, it is spread over its partitions by rows (evenly where none has any).';
