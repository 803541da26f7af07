-- What each product did per calendar month of the order date. Name, category and brand are those of the latest
-- version that a line of the month points at. :first_date and :last_date (yyyymmdd) bound what is read.
WITH lines AS (
    SELECT date_key / 100 AS month_key, order_id, product_key, quantity, total_amount, profit
    FROM warehouse.fact_sales
    WHERE date_key BETWEEN :first_date AND :last_date
    UNION ALL
    SELECT date_key / 100 AS month_key, order_id, product_key, quantity, total_amount, profit
    FROM warehouse.fact_returns
    WHERE date_key BETWEEN :first_date AND :last_date
),
per_version AS (
    SELECT
        month_key,
        product_key,
        sum(quantity) FILTER (WHERE quantity > 0) AS quantity,
        sum(total_amount) FILTER (WHERE quantity > 0) AS sales,
        sum(quantity) FILTER (WHERE quantity < 0) AS returned_quantity,
        sum(total_amount) FILTER (WHERE quantity < 0) AS returns,
        sum(profit) AS profit
    FROM lines
    GROUP BY month_key, product_key
),
orders AS (
    SELECT l.month_key, p.product_id, count(DISTINCT l.order_id) AS orders
    FROM lines AS l
    JOIN warehouse.dim_product AS p USING (product_key)
    WHERE l.quantity > 0
    GROUP BY l.month_key, p.product_id
),
per_product AS (
    SELECT
        v.month_key,
        p.product_id,
        (array_agg(p.product_name ORDER BY p.effective_from DESC))[1] AS product_name,
        (array_agg(p.category ORDER BY p.effective_from DESC))[1] AS category,
        (array_agg(p.brand ORDER BY p.effective_from DESC))[1] AS brand,
        coalesce(sum(v.quantity), 0) AS quantity,
        coalesce(sum(v.sales), 0) AS sales,
        coalesce(sum(v.returned_quantity), 0) AS returned_quantity,
        coalesce(sum(v.returns), 0) AS returns,
        sum(v.profit) AS profit
    FROM per_version AS v
    JOIN warehouse.dim_product AS p USING (product_key)
    WHERE p.product_id IS NOT NULL
    GROUP BY v.month_key, p.product_id
)
SELECT
    make_date(month_key / 100, month_key % 100, 1) AS month_start,
    product_id,
    product_name,
    category,
    brand,
    coalesce(o.orders, 0) AS orders,
    quantity,
    sales,
    returned_quantity,
    returns,
    sales + returns AS net_sales,
    profit,
    round(profit / nullif(sales + returns, 0), 4) AS margin,
    round(-returned_quantity / nullif(quantity, 0), 4) AS return_rate
FROM per_product
LEFT JOIN orders AS o USING (month_key, product_id)
