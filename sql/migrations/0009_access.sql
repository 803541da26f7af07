-- Who may read what, and what is left of persons who were erased.

CREATE TABLE platform.erasures (
    erasure_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run_id text NOT NULL,
    id_hash text NOT NULL,
    pseudonym text NOT NULL,
    counts jsonb NOT NULL,
    started_at timestamptz NOT NULL,
    finished_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE platform.erasures IS
    'One row per finished `data-platform erase`: that it was done, by which run, and in how many places. Never personal data.';
COMMENT ON COLUMN platform.erasures.id_hash IS
    'Keyed hash of the customer''s id; the key is in the lake, beside the register of erased ids.';

-- For SELECT *, which fails on the table for whoever may not read all of its columns. A test holds its columns against
-- the contract: those that are no personal data.
CREATE VIEW warehouse.dim_customer_without_pii AS
SELECT
    customer_key,
    customer_id,
    segment,
    country,
    created_date,
    effective_from,
    effective_to,
    is_current,
    is_inferred
FROM warehouse.dim_customer;
COMMENT ON VIEW warehouse.dim_customer_without_pii IS 'dim_customer without personal data, for analysts.';

-- The years of the fact tables are made by whoever loads. Attaching one takes the owner's rights, and a role that loads
-- need not be the owner: these do that much of it, and nothing else, for whoever may execute them.
CREATE FUNCTION warehouse.make_year(fact text, year integer) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    child text := format('%s_%s', fact, year);
    writer text;
BEGIN
    IF fact NOT IN ('fact_sales', 'fact_returns') OR year NOT BETWEEN 1 AND 9999 THEN
        RAISE EXCEPTION 'no year % of a table %', year, fact USING ERRCODE = 'invalid_parameter_value';
    END IF;
    EXECUTE format(
        'CREATE TABLE warehouse.%I (LIKE warehouse.%I INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING COMMENTS)',
        child, fact
    );
    -- Whoever may write the fact table fills its years: default privileges are those of the role that granted them.
    FOR writer IN
        SELECT DISTINCT a.grantee::regrole::text
        FROM pg_class AS c
        CROSS JOIN LATERAL aclexplode(c.relacl) AS a
        WHERE c.oid = format('warehouse.%I', fact)::regclass
            AND a.privilege_type = 'INSERT' AND a.grantee NOT IN (0, c.relowner)
    LOOP
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON warehouse.%I TO %s', child, writer);
    END LOOP;
END
$$;
COMMENT ON FUNCTION warehouse.make_year IS 'Makes the table of a year beside its fact table, without indexes, to be filled.';

CREATE FUNCTION warehouse.attach_year(fact text, year integer) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    child text := format('%s_%s', fact, year);
    low integer := year * 10000;
    high integer := (year + 1) * 10000;
BEGIN
    IF fact NOT IN ('fact_sales', 'fact_returns') OR year NOT BETWEEN 1 AND 9999 THEN
        RAISE EXCEPTION 'no year % of a table %', year, fact USING ERRCODE = 'invalid_parameter_value';
    END IF;
    -- Those that ATTACH would otherwise make, as the migrations declare them.
    EXECUTE format('ALTER TABLE warehouse.%I ADD PRIMARY KEY (order_id, line_number, date_key)', child);
    EXECUTE format('CREATE INDEX ON warehouse.%I (date_key)', child);
    EXECUTE format('CREATE INDEX ON warehouse.%I (customer_key)', child);
    EXECUTE format('CREATE INDEX ON warehouse.%I (product_key)', child);
    EXECUTE format('ANALYZE warehouse.%I', child);
    -- The CHECK tells ATTACH the range, so that it need not look.
    EXECUTE format(
        'ALTER TABLE warehouse.%I ADD CONSTRAINT in_year CHECK (date_key >= %s AND date_key < %s)', child, low, high
    );
    EXECUTE format(
        'ALTER TABLE warehouse.%I ATTACH PARTITION warehouse.%I FOR VALUES FROM (%s) TO (%s)', fact, child, low, high
    );
    EXECUTE format('ALTER TABLE warehouse.%I DROP CONSTRAINT in_year', child);
END
$$;
COMMENT ON FUNCTION warehouse.attach_year IS 'Indexes the table of a year that make_year made, and attaches it.';

-- Without statistics the next publish would read a table whole to find a day's rows.
CREATE FUNCTION warehouse.analyze_table(name text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    EXECUTE format('ANALYZE (SKIP_LOCKED) warehouse.%I', name);
END
$$;
COMMENT ON FUNCTION warehouse.analyze_table IS 'Brings the statistics of a table of the star up to date.';

REVOKE EXECUTE ON FUNCTION warehouse.make_year, warehouse.attach_year, warehouse.analyze_table FROM PUBLIC;
