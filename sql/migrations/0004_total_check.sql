-- The facts refuse a total that is not what its line says, as they refuse a quantity of the wrong sign.

ALTER TABLE warehouse.fact_sales
ADD CONSTRAINT fact_sales_total CHECK (total_amount = quantity * unit_price - discount_amount);

ALTER TABLE warehouse.fact_returns
ADD CONSTRAINT fact_returns_total CHECK (total_amount = quantity * unit_price - discount_amount);
