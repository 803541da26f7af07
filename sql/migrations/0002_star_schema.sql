-- The star schema. Indexes serve its queries and the engine's look-ups, and no more: each is paid for at every load.

CREATE TABLE warehouse.dim_date (
    date_key integer PRIMARY KEY,
    full_date date NOT NULL UNIQUE,
    day_of_week integer NOT NULL CHECK (day_of_week BETWEEN 1 AND 7),
    day_name text NOT NULL,
    day_of_month integer NOT NULL,
    day_of_year integer NOT NULL,
    week_of_year integer NOT NULL,
    month integer NOT NULL CHECK (month BETWEEN 1 AND 12),
    month_name text NOT NULL,
    quarter integer NOT NULL CHECK (quarter BETWEEN 1 AND 4),
    year integer NOT NULL,
    is_weekend boolean NOT NULL,
    is_holiday boolean NOT NULL,
    holiday_name text
);

CREATE TABLE warehouse.dim_customer (
    customer_key bigint PRIMARY KEY,
    customer_id text,
    email text,
    first_name text,
    last_name text,
    segment text,
    country text,
    created_date date,
    effective_from date NOT NULL,
    effective_to date,
    is_current boolean NOT NULL,
    is_inferred boolean NOT NULL,
    CONSTRAINT dim_customer_version UNIQUE (customer_id, effective_from),
    CONSTRAINT dim_customer_ends_after_start CHECK (effective_to > effective_from),
    CONSTRAINT dim_customer_current_is_open CHECK (is_current = (effective_to IS NULL)),
    CONSTRAINT dim_customer_only_unknown_has_no_id CHECK ((customer_id IS NULL) = (customer_key = -1)),
    CONSTRAINT dim_customer_inferred_spans_all CHECK (NOT is_inferred OR (effective_from = '0001-01-01' AND is_current))
);
CREATE UNIQUE INDEX dim_customer_one_current ON warehouse.dim_customer (customer_id) WHERE is_current;
CREATE SEQUENCE warehouse.dim_customer_key OWNED BY warehouse.dim_customer.customer_key;

CREATE TABLE warehouse.dim_product (
    product_key bigint PRIMARY KEY,
    product_id text,
    product_name text,
    category text,
    subcategory text,
    brand text,
    unit_price numeric(18, 4),
    cost numeric(18, 4),
    effective_from date NOT NULL,
    effective_to date,
    is_current boolean NOT NULL,
    is_inferred boolean NOT NULL,
    CONSTRAINT dim_product_version UNIQUE (product_id, effective_from),
    CONSTRAINT dim_product_ends_after_start CHECK (effective_to > effective_from),
    CONSTRAINT dim_product_current_is_open CHECK (is_current = (effective_to IS NULL)),
    CONSTRAINT dim_product_only_unknown_has_no_id CHECK ((product_id IS NULL) = (product_key = -1)),
    CONSTRAINT dim_product_inferred_spans_all CHECK (NOT is_inferred OR (effective_from = '0001-01-01' AND is_current))
);
CREATE UNIQUE INDEX dim_product_one_current ON warehouse.dim_product (product_id) WHERE is_current;
CREATE SEQUENCE warehouse.dim_product_key OWNED BY warehouse.dim_product.product_key;

-- The unknown members: facts that name no customer point at them.
INSERT INTO warehouse.dim_customer (customer_key, effective_from, is_current, is_inferred)
VALUES (-1, '0001-01-01', true, false);
INSERT INTO warehouse.dim_product (product_key, effective_from, is_current, is_inferred)
VALUES (-1, '0001-01-01', true, false);

CREATE SEQUENCE warehouse.sale_key;

-- Partitioned by year. A unique key must contain the partition key, so (order_id, line_number) over all dates and over
-- both tables is checked by the publishing transaction.
CREATE TABLE warehouse.fact_sales (
    sale_key bigint NOT NULL,
    date_key integer NOT NULL REFERENCES warehouse.dim_date (date_key),
    customer_key bigint NOT NULL REFERENCES warehouse.dim_customer (customer_key),
    product_key bigint NOT NULL REFERENCES warehouse.dim_product (product_key),
    order_id text NOT NULL,
    line_number integer NOT NULL,
    order_ts timestamp NOT NULL,
    quantity integer NOT NULL CONSTRAINT fact_sales_quantity_positive CHECK (quantity > 0),
    unit_price numeric(18, 4) NOT NULL,
    discount_amount numeric(18, 4) NOT NULL,
    total_amount numeric(18, 4) NOT NULL,
    profit numeric(38, 4),
    delivered_on date NOT NULL,
    updated_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT fact_sales_total CHECK (total_amount = quantity * unit_price - discount_amount),
    PRIMARY KEY (order_id, line_number, date_key)
) PARTITION BY RANGE (date_key);
CREATE INDEX fact_sales_date ON warehouse.fact_sales (date_key);
CREATE INDEX fact_sales_customer ON warehouse.fact_sales (customer_key);
CREATE INDEX fact_sales_product ON warehouse.fact_sales (product_key);

CREATE TABLE warehouse.fact_returns (
    sale_key bigint NOT NULL,
    date_key integer NOT NULL REFERENCES warehouse.dim_date (date_key),
    customer_key bigint NOT NULL REFERENCES warehouse.dim_customer (customer_key),
    product_key bigint NOT NULL REFERENCES warehouse.dim_product (product_key),
    order_id text NOT NULL,
    line_number integer NOT NULL,
    order_ts timestamp NOT NULL,
    quantity integer NOT NULL CONSTRAINT fact_returns_quantity_negative CHECK (quantity < 0),
    unit_price numeric(18, 4) NOT NULL,
    discount_amount numeric(18, 4) NOT NULL,
    total_amount numeric(18, 4) NOT NULL,
    profit numeric(38, 4),
    delivered_on date NOT NULL,
    updated_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT fact_returns_total CHECK (total_amount = quantity * unit_price - discount_amount),
    PRIMARY KEY (order_id, line_number, date_key)
) PARTITION BY RANGE (date_key);
CREATE INDEX fact_returns_date ON warehouse.fact_returns (date_key);
CREATE INDEX fact_returns_customer ON warehouse.fact_returns (customer_key);
CREATE INDEX fact_returns_product ON warehouse.fact_returns (product_key);
