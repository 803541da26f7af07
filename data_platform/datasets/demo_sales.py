"""The demo shop's orders: what is sold on each day, what becomes of it later, and when which telling is delivered.

Lines wait as numbers (places of customers and products, cents) until their delivery is due; only then are they
written out. What waits is at most the events of three weeks, so memory does not grow with the number of days.
"""

from collections import Counter
from datetime import date, timedelta

import numpy as np
import polars as pl
from numpy.typing import NDArray

from data_platform.datasets.demo_catalogue import Customers, Ints, Products, money
from data_platform.datasets.demo_dirt import most_dirt, pick_faults
from data_platform.datasets.demo_size import Rates, ShopSize

_COLUMNS: dict[str, pl.DataType] = {
    "due": pl.Int32(),
    "order": pl.Int64(),
    "line": pl.Int32(),
    "customer": pl.Int64(),
    "product": pl.Int64(),
    "quantity": pl.Int64(),
    "price": pl.Int64(),
    "discount": pl.Int64(),
    "order_ts": pl.Datetime("us"),
    "updated_at": pl.Datetime("us"),
    "kind": pl.UInt8(),
    "fault": pl.Int8(),
}
# Kinds of telling, in places of _STATUS.
_SALE, _CORRECTION, _RETURN, _TOMBSTONE = range(4)
_STATUS = pl.Series(["completed", "corrected", "returned", "cancelled"])

# Monday to Sunday; January to December.
_WEEKDAYS = (0.92, 0.9, 0.95, 1.0, 1.12, 1.22, 0.89)
_MONTHS = (0.86, 0.84, 0.93, 0.97, 1.0, 0.98, 0.93, 0.92, 1.0, 1.06, 1.28, 1.42)
_GROWTH_A_YEAR = 0.18
# Share of the day's orders by hour. No order at night, when daylight saving skips an hour in some time zone.
_HOURS = range(6, 24)
_BY_HOUR = (1, 2, 3, 5, 6, 6, 7, 6, 5, 5, 6, 7, 8, 9, 10, 8, 6)
# Months with a sale: more lines have a discount.
_SALE_MONTHS = (1, 7, 11)


class Sales:
    """The shop's tills. Each day: `sell`, then `delivery`, in order. `counts` names every event so far."""

    def __init__(self, size: ShopSize, rates: Rates, start: date, rng: np.random.Generator) -> None:
        self._size, self._rates, self._start, self._rng = size, rates, start, rng
        self._orders_by_day = _orders_by_day(size, start, rng)
        self._order = 0
        self._waiting = pl.DataFrame(schema=_COLUMNS)
        self._customer_weights: NDArray[np.float64] | None = None
        self._product_weights: NDArray[np.float64] | None = None
        self.counts: Counter[str] = Counter()

    def sell(self, day: int, products: Products, customers: Customers) -> None:
        """The orders of day number `day` at its prices, and all that will become of them."""
        if not self._orders_by_day[day]:
            return
        lines = self._lines(day, products, customers)
        due = lines["due"].to_numpy()
        last = self._size.days - 1

        # One fate an order, then one a line: so the counts say what the warehouse must hold.
        order = lines["order"].to_numpy() - lines["order"][0]
        cancelled_on = due + self._per_order(order, 1, 4)
        cancelled = (self._rng.random(order[-1] + 1) < self._rates.cancellations)[order] & (cancelled_on <= last)
        share = self._rng.random(lines.height)
        shares = np.cumsum([self._rates.corrections, self._rates.returns, self._rates.dirt])
        corrected_on = due + self._rng.integers(1, 6, lines.height)
        corrected = ~cancelled & (share < shares[0]) & (corrected_on <= last)
        returned_on = due + self._rng.integers(3, 22, lines.height)
        returned = ~cancelled & (shares[0] <= share) & (share < shares[1]) & (returned_on <= last)
        dirty = ~cancelled & (shares[1] <= share) & (share < shares[2])
        faults = np.zeros(lines.height, dtype=np.int8)
        faults[dirty] = pick_faults(self._rng, "orders", int(dirty.sum()))

        corrections = self._corrections(lines.filter(corrected), corrected_on[corrected])
        returns = self._returns(lines.filter(returned), returned_on[returned])
        tombstones = self._later(lines.filter(cancelled), cancelled_on[cancelled], _TOMBSTONE)
        tombstones = tombstones.with_columns(
            # One cancellation takes all lines of its order at once.
            updated_at=pl.col("updated_at").first().over("order")
        )
        lines = lines.with_columns(fault=pl.Series(faults))
        self._waiting = pl.concat([self._waiting, lines, corrections, returns, tombstones])

        late = due > day
        self.counts.update(
            orders=int(order[-1]) + 1,
            lines_sold=lines.height,
            late_orders=int(np.unique(order[late]).size),
            late_lines=int(late.sum()),
            cancellations=int(np.unique(order[cancelled]).size),
            cancelled_lines=int(cancelled.sum()),
            corrections=corrections.height,
            returns=returns.height,
        )
        self._tally("sales", lines.filter(~cancelled & ~corrected))
        self._tally("sales", corrections)
        self._tally("returns", returns)

    def delivery(self, day: int, products: Products, customers: Customers) -> pl.DataFrame:
        """What the orders' source delivers on day number `day`: one row a telling of a line, and `fault`."""
        due = self._waiting.filter(pl.col("due") == day).sort("updated_at", "order", "line", maintain_order=True)
        self._waiting = self._waiting.filter(pl.col("due") > day)
        due = self._cap_dirt(due)
        dirty = due.filter(pl.col("fault") > 0)
        repeated = (self._rng.random(due.height) < self._rates.duplicates) & (due["fault"] == 0).to_numpy()
        self.counts.update(
            dirty_lines=dirty.height, duplicates=int(repeated.sum()), lines_delivered=due.height + int(repeated.sum())
        )
        self._tally("sales", dirty, sign=-1)
        due = due[np.repeat(np.arange(due.height), 1 + repeated)]
        return due.select(
            order_id=pl.when(kind=_RETURN).then(pl.lit("R")).otherwise(pl.lit("O"))
            + pl.col("order").cast(pl.String).str.zfill(9),
            line_number="line",
            customer_id=customers.ids.gather(due["customer"]),
            product_id=products.ids.gather(due["product"]),
            quantity="quantity",
            unit_price=money(due["price"]),
            discount_amount=money(due["discount"]),
            order_ts="order_ts",
            status=_STATUS.gather(due["kind"]),
            updated_at="updated_at",
            fault="fault",
        )

    def _lines(self, day: int, products: Products, customers: Customers) -> pl.DataFrame:
        rng, orders = self._rng, int(self._orders_by_day[day])
        on = self._start + timedelta(days=day)
        seconds = np.interp(rng.random(orders), np.cumsum([0, *_BY_HOUR]) / sum(_BY_HOUR), _HOURS) * 3600
        times = np.datetime64(on, "us") + np.sort(seconds).astype("timedelta64[s]")
        customer = self._customers(orders, int(customers.known[day]), customers)
        guest = rng.random(orders) < self._rates.guests
        late = (rng.random(orders) < self._rates.late) * rng.integers(1, 6, orders)
        due = np.minimum(day + late, self._size.days - 1)

        spread = self._size.lines_per_order - 1
        count = 1 + rng.poisson(rng.gamma(2, spread / 2, orders))
        order = np.repeat(np.arange(orders), count)
        total = order.size
        product = self._products(total, int(products.known[day]), products)
        bulk = customers.bulk_buyers[customer][order] & ~guest[order]
        quantity = np.minimum(rng.geometric(0.6, total), 9) * np.where(bulk, rng.integers(2, 7, total), 1)
        price = products.prices[product]
        discounted = rng.random(total) < (0.35 if on.month in _SALE_MONTHS else 0.12)
        percent = rng.choice([5, 10, 20, 30], total, p=[0.3, 0.4, 0.2, 0.1]) * discounted
        first = self._order + 1
        self._order += orders
        return pl.DataFrame(
            {
                "due": due[order],
                "order": first + order,
                "line": 1 + np.arange(total) - np.repeat(np.cumsum(count) - count, count),
                "customer": pl.select(pl.when(~pl.Series(guest)).then(pl.Series(customer))).to_series().gather(order),
                "product": product,
                "quantity": quantity,
                "price": price,
                "discount": quantity * price * percent // 100,
                "order_ts": times[order],
                "updated_at": times[order],
                "kind": np.full(total, _SALE),
                "fault": np.zeros(total),
            },
            schema=_COLUMNS,
            strict=False,
        )

    def _corrections(self, lines: pl.DataFrame, due: Ints) -> pl.DataFrame:
        # Two of three correct the quantity, the rest the price: always to another value than the first.
        by_quantity = pl.Series(self._rng.random(lines.height) < 2 / 3)
        price = lines["price"].to_numpy()
        lower = price - np.maximum(price // 20, 1)
        more = lines["quantity"].to_numpy() + self._rng.integers(1, 4, lines.height)
        corrected = lines.with_columns(
            quantity=pl.when(by_quantity).then(pl.Series(more)).otherwise("quantity"),
            price=pl.when(by_quantity).then("price").otherwise(pl.Series(lower)),
        )
        return self._later(corrected, due, _CORRECTION)

    def _returns(self, lines: pl.DataFrame, due: Ints) -> pl.DataFrame:
        quantity = lines["quantity"].to_numpy()
        back = self._rng.integers(1, quantity + 1)
        returned = lines.with_columns(
            quantity=pl.Series(-back), discount=pl.Series(-(lines["discount"].to_numpy() * back // quantity))
        )
        return self._later(returned, due, _RETURN).with_columns(order_ts="updated_at")

    def _later(self, lines: pl.DataFrame, due: Ints, kind: int) -> pl.DataFrame:
        seconds = self._rng.integers(_HOURS[0] * 3600, _HOURS[-1] * 3600, lines.height)
        moments = (np.datetime64(self._start, "us") + due.astype("timedelta64[D]")) + seconds.astype("timedelta64[s]")
        return lines.with_columns(
            due=pl.Series(due, dtype=pl.Int32), updated_at=pl.Series(moments), kind=pl.lit(kind, pl.UInt8)
        )

    def _per_order(self, order: Ints, low: int, high: int) -> Ints:
        drawn: Ints = self._rng.integers(low, high, order[-1] + 1)
        return drawn[order]

    def _cap_dirt(self, due: pl.DataFrame) -> pl.DataFrame:
        faulty = pl.col("fault") > 0
        kept = faulty & (faulty.cum_sum() <= most_dirt(due.height))
        return due.with_columns(fault=pl.when(kept).then("fault").otherwise(0))

    def _customers(self, count: int, known: int, customers: Customers) -> Ints:
        if self._customer_weights is None:
            self._customer_weights = np.cumsum(self._rng.lognormal(0, 1.1, int(customers.known[-1])))
        return _draw(self._rng, self._customer_weights, known, count)

    def _products(self, count: int, known: int, products: Products) -> Ints:
        if self._product_weights is None:
            self._product_weights = np.cumsum(self._rng.lognormal(0, 1.2, int(products.known[-1])))
        return _draw(self._rng, self._product_weights, known, count)

    def _tally(self, fact: str, lines: pl.DataFrame, sign: int = 1) -> None:
        quantity, cents = lines.select(
            quantity=pl.col("quantity").sum(), cents=(pl.col("quantity") * pl.col("price") - pl.col("discount")).sum()
        ).row(0)
        self.counts.update({f"{fact}_quantity": sign * quantity, f"{fact}_cents": sign * cents})


def _orders_by_day(size: ShopSize, start: date, rng: np.random.Generator) -> Ints:
    days = [start + timedelta(days=day) for day in range(size.days)]
    weights = [
        _WEEKDAYS[on.weekday()] * _MONTHS[on.month - 1] * (1 + _GROWTH_A_YEAR) ** (day / 365)
        for day, on in enumerate(days)
    ]
    shares = np.cumsum(np.array(weights) * rng.normal(1, 0.05, size.days).clip(0.8, 1.2))
    # Rounding the running total makes the orders of all days exactly what the size says.
    until = np.round(shares / shares[-1] * size.orders_per_day * size.days).astype(np.int64)
    orders: Ints = np.diff(until, prepend=0)
    return orders


def _draw(rng: np.random.Generator, running_weights: NDArray[np.float64], known: int, count: int) -> Ints:
    drawn: Ints = np.searchsorted(running_weights, rng.random(count) * running_weights[known - 1])
    return drawn.clip(0, known - 1)
