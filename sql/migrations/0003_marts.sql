-- What people and dashboards read: each table holds the result of the SELECT of the same name in sql/marts.

CREATE TABLE marts.mart_daily_sales (
    date_key integer PRIMARY KEY,
    full_date date NOT NULL,
    orders bigint NOT NULL,
    lines bigint NOT NULL,
    customers bigint NOT NULL,
    quantity bigint NOT NULL,
    gross_sales numeric(38, 4) NOT NULL,
    discounts numeric(38, 4) NOT NULL,
    sales numeric(38, 4) NOT NULL,
    return_lines bigint NOT NULL,
    returned_quantity bigint NOT NULL,
    returns numeric(38, 4) NOT NULL,
    net_sales numeric(38, 4) NOT NULL,
    profit numeric(38, 4),
    average_order_value numeric(38, 4)
);

CREATE TABLE marts.mart_product_performance (
    month_start date NOT NULL,
    product_id text NOT NULL,
    product_name text,
    category text,
    brand text,
    orders bigint NOT NULL,
    quantity bigint NOT NULL,
    sales numeric(38, 4) NOT NULL,
    returned_quantity bigint NOT NULL,
    returns numeric(38, 4) NOT NULL,
    net_sales numeric(38, 4) NOT NULL,
    profit numeric(38, 4),
    margin numeric(38, 4),
    return_rate numeric(38, 4),
    PRIMARY KEY (month_start, product_id)
);

CREATE TABLE marts.mart_customer_value (
    customer_id text PRIMARY KEY,
    segment text,
    country text,
    first_order_date date NOT NULL,
    last_order_date date NOT NULL,
    cohort_month date NOT NULL,
    recency_days integer NOT NULL,
    frequency bigint NOT NULL,
    monetary_value numeric(38, 4) NOT NULL,
    average_order_value numeric(38, 4) NOT NULL
);
