-- Recency, frequency, monetary value and cohort of every customer who has bought. Recency counts from the latest
-- order date of all facts, so that it depends on data and not on a clock. Segment and country are those of the
-- latest version that one of the customer's lines points at. Lines without a customer have no place here.
WITH lines AS (
    SELECT customer_key, order_id, date_key, total_amount, true AS is_sale
    FROM warehouse.fact_sales
    UNION ALL
    SELECT customer_key, order_id, date_key, total_amount, false AS is_sale
    FROM warehouse.fact_returns
),
latest AS (
    SELECT full_date AS order_date
    FROM warehouse.dim_date
    WHERE date_key = greatest(
        (SELECT max(date_key) FROM warehouse.fact_sales),
        (SELECT max(date_key) FROM warehouse.fact_returns)
    )
),
per_customer AS (
    SELECT
        c.customer_id,
        min(l.date_key) FILTER (WHERE l.is_sale) AS first_date_key,
        max(l.date_key) FILTER (WHERE l.is_sale) AS last_date_key,
        count(DISTINCT l.order_id) FILTER (WHERE l.is_sale) AS frequency,
        sum(l.total_amount) AS monetary_value,
        sum(l.total_amount) FILTER (WHERE l.is_sale) AS sales,
        max(c.effective_from) AS latest_version
    FROM lines AS l
    JOIN warehouse.dim_customer AS c USING (customer_key)
    WHERE c.customer_id IS NOT NULL
    GROUP BY c.customer_id
    HAVING bool_or(l.is_sale)
)
SELECT
    customer_id,
    c.segment,
    c.country,
    first.full_date AS first_order_date,
    last.full_date AS last_order_date,
    date_trunc('month', first.full_date)::date AS cohort_month,
    latest.order_date - last.full_date AS recency_days,
    v.frequency,
    v.monetary_value,
    round(v.sales / v.frequency, 4) AS average_order_value
FROM per_customer AS v
JOIN warehouse.dim_customer AS c USING (customer_id)
JOIN warehouse.dim_date AS first ON first.date_key = v.first_date_key
JOIN warehouse.dim_date AS last ON last.date_key = v.last_date_key
CROSS JOIN latest
WHERE c.effective_from = v.latest_version
