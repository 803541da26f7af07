-- Sales and returns per order date. :first_date and :last_date (yyyymmdd) bound what is read.
WITH sales AS (
    SELECT
        date_key,
        count(DISTINCT order_id) AS orders,
        count(*) AS lines,
        count(DISTINCT customer_key) FILTER (WHERE customer_key <> -1) AS customers,
        sum(quantity) AS quantity,
        sum(total_amount + discount_amount) AS gross_sales,
        sum(discount_amount) AS discounts,
        sum(total_amount) AS sales,
        sum(profit) AS profit
    FROM warehouse.fact_sales
    WHERE date_key BETWEEN :first_date AND :last_date
    GROUP BY date_key
),
returns AS (
    SELECT
        date_key,
        count(*) AS return_lines,
        sum(quantity) AS returned_quantity,
        sum(total_amount) AS returns,
        sum(profit) AS profit
    FROM warehouse.fact_returns
    WHERE date_key BETWEEN :first_date AND :last_date
    GROUP BY date_key
)
SELECT
    date_key,
    d.full_date,
    coalesce(s.orders, 0) AS orders,
    coalesce(s.lines, 0) AS lines,
    coalesce(s.customers, 0) AS customers,
    coalesce(s.quantity, 0) AS quantity,
    coalesce(s.gross_sales, 0) AS gross_sales,
    coalesce(s.discounts, 0) AS discounts,
    coalesce(s.sales, 0) AS sales,
    coalesce(r.return_lines, 0) AS return_lines,
    coalesce(r.returned_quantity, 0) AS returned_quantity,
    coalesce(r.returns, 0) AS returns,
    coalesce(s.sales, 0) + coalesce(r.returns, 0) AS net_sales,
    CASE
        WHEN s.profit IS NULL AND r.profit IS NULL THEN NULL
        ELSE coalesce(s.profit, 0) + coalesce(r.profit, 0)
    END AS profit,
    round(s.sales / s.orders, 4) AS average_order_value
FROM sales AS s
FULL JOIN returns AS r USING (date_key)
JOIN warehouse.dim_date AS d USING (date_key)
