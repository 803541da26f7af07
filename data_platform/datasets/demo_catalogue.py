"""The demo shop's products and customers: who and what is known on each day, and what changes on it.

Both are arrays over all that will ever be known, in the order in which they join, so that the first `known[day]`
places are those of a day. Money is counted in cents.
"""

from datetime import date

import numpy as np
import polars as pl
from numpy.typing import NDArray

from data_platform.datasets.demo_dirt import most_dirt, pick_faults
from data_platform.datasets.demo_size import Rates, ShopSize
from data_platform.datasets.demo_words import (
    ASSORTMENT,
    BRANDS,
    COLOURS,
    COUNTRIES,
    FIRST_NAMES,
    LAST_NAMES,
    MATERIALS,
    SEGMENTS,
)

Ints = NDArray[np.int64]


class Products:
    """The assortment. `prices` (cents) are those of the last day that `delivery` was asked for."""

    def __init__(self, size: ShopSize, rates: Rates, rng: np.random.Generator) -> None:
        self._rates, self._rng = rates, rng
        self.known = _known_by_day(size.products, rates.new_products, size.days)
        self.price_changes = self.rows = self.dirty_rows = 0
        total = int(self.known[-1])
        kind = rng.integers(0, len(ASSORTMENT), total)
        low, high = (np.array([kind[3][end] for kind in ASSORTMENT], dtype=np.float64)[kind] for end in (0, 1))
        # Most things of a kind are cheap, few are dear.
        self._list_prices = _retail_price(100 * (low + (high - low) * rng.beta(1.3, 3.0, total)))
        self.prices = self._list_prices.copy()
        self._costs = np.round(self.prices * rng.uniform(0.45, 0.7, total)).astype(np.int64)
        self.ids = pl.Series("product_id", [f"P{number:06d}" for number in range(1, total + 1)])
        self._named = pl.DataFrame(
            {
                "product_id": self.ids,
                "product_name": self._names(kind),
                "category": pl.Series([kind[0] for kind in ASSORTMENT]).gather(kind),
                "subcategory": pl.Series([kind[1] for kind in ASSORTMENT]).gather(kind),
                "brand": pl.Series(BRANDS).gather(rng.integers(0, len(BRANDS), total)),
            }
        )

    def delivery(self, day: int, on: date) -> pl.DataFrame:
        """What the products' source delivers on day number `day`: all, later the new ones and those with a new price.

        One row a product, `fault` for the dirty copies among them. Days are asked for once and in order.
        """
        told = _joining(self.known, day)
        if day > 0:
            changed = _some(self._rng, int(self.known[day - 1]), self._rates.price_changes)
            self._reprice(changed)
            self.price_changes += changed.size
            told = np.concatenate([told, changed])
        told, faults = _with_dirty_copies(self._rng, "products", told, int(self.known[day]), self._rates.dirt)
        self.rows += told.size
        self.dirty_rows += int(np.count_nonzero(faults))
        return self._named[told].with_columns(
            money(pl.Series("unit_price", self.prices[told])),
            money(pl.Series("cost", self._costs[told])),
            # Prices are changed before the shop opens: every order of the day has the new one.
            _times(self._rng, on, 5, 6, told.size).alias("updated_at"),
            pl.Series("fault", faults),
        )

    def _reprice(self, changed: Ints) -> None:
        # Around the list price, so that a price neither drifts away nor forgets where it was.
        prices = _retail_price(self._list_prices[changed] * self._rng.uniform(0.75, 1.2, changed.size))
        same = prices == self.prices[changed]
        self.prices[changed] = np.where(same, prices + 50, prices)
        dearer = self._rng.random(changed.size) < 1 / 3
        self._costs[changed[dearer]] += np.maximum(self._costs[changed[dearer]] // 25, 1)

    def _names(self, kind: Ints) -> pl.Series:
        rng, total = self._rng, kind.size
        things = [ASSORTMENT[place][2] for place in range(len(ASSORTMENT))]
        flat = pl.Series([thing for some in things for thing in some])
        first = np.cumsum([0, *(len(some) for some in things[:-1])])
        count = np.array([len(some) for some in things])
        thing = first[kind] + rng.integers(0, count[kind])
        words = pl.DataFrame(
            {
                "colour": pl.Series(COLOURS).gather(rng.integers(0, len(COLOURS), total)),
                "material": pl.Series(MATERIALS).gather(rng.integers(0, len(MATERIALS), total)),
                "thing": flat.gather(thing),
            }
        )
        return words.select(pl.format("{} {}, {}", "material", "thing", "colour")).to_series()


class Customers:
    """The customers that the shop knows by name."""

    def __init__(self, size: ShopSize, rates: Rates, start: date, rng: np.random.Generator) -> None:
        self._rates, self._rng = rates, rng
        self.known = _known_by_day(size.customers, rates.new_customers, size.days)
        self.moves = self.rows = self.dirty_rows = 0
        total = int(self.known[-1])
        self._segment = rng.choice(len(SEGMENTS), total, p=list(SEGMENTS.values()))
        self._country = rng.choice(len(COUNTRIES), total, p=list(COUNTRIES.values()))
        numbers = pl.Series("number", np.arange(1, total + 1))
        self.ids = pl.Series("customer_id", [f"C{number:07d}" for number in numbers])
        # Those of the first day came over the four years before, the others on the day that they join.
        join_day = np.searchsorted(self.known, np.arange(total), side="right")
        age = np.where(join_day == 0, -rng.integers(1, 4 * 365, total), join_day)
        self._named = (
            pl.DataFrame(
                {
                    "customer_id": self.ids,
                    "number": numbers,
                    "first_name": pl.Series(FIRST_NAMES).gather(rng.integers(0, len(FIRST_NAMES), total)),
                    "last_name": pl.Series(LAST_NAMES).gather(rng.integers(0, len(LAST_NAMES), total)),
                    "age": age,
                }
            )
            .with_columns(
                email=pl.format("{}.{}{}@example.com", "first_name", "last_name", "number").str.to_lowercase(),
                created_date=pl.lit(start) + pl.duration(days="age"),
            )
            .select("customer_id", "email", "first_name", "last_name", "created_date")
        )

    @property
    def bulk_buyers(self) -> NDArray[np.bool_]:
        """Which customers buy for a business now."""
        return self._segment > 0

    def delivery(self, day: int, on: date) -> pl.DataFrame:
        """What the customers' source delivers on day number `day`: all, later the new ones and those that moved.

        One row a customer, `fault` for the dirty copies among them. Days are asked for once and in order.
        """
        told = _joining(self.known, day)
        if day > 0:
            moved = _some(self._rng, int(self.known[day - 1]), self._rates.moves)
            self._move(moved)
            self.moves += moved.size
            told = np.concatenate([told, moved])
        told, faults = _with_dirty_copies(self._rng, "customers", told, int(self.known[day]), self._rates.dirt)
        self.rows += told.size
        self.dirty_rows += int(np.count_nonzero(faults))
        return self._named[told].select(
            "customer_id",
            "email",
            "first_name",
            "last_name",
            pl.Series(list(SEGMENTS)).gather(self._segment[told]).alias("segment"),
            pl.Series(list(COUNTRIES)).gather(self._country[told]).alias("country"),
            "created_date",
            _times(self._rng, on, 6, 23, told.size).alias("updated_at"),
            pl.Series("fault", faults),
        )

    def _move(self, moved: Ints) -> None:
        abroad = self._rng.random(moved.size) < 0.7
        for places, count, values in (
            (moved[abroad], len(COUNTRIES), self._country),
            (moved[~abroad], len(SEGMENTS), self._segment),
        ):
            # A step of 1 to count - 1 places never leads back to the same one.
            values[places] = (values[places] + self._rng.integers(1, count, places.size)) % count


def money(cents: pl.Series) -> pl.Series:
    """Cents as decimal(18,4) in the shop's currency."""
    return (cents.cast(pl.Decimal(18, 4)) / 100).cast(pl.Decimal(18, 4))


def _known_by_day(opening: int, rate: float, days: int) -> Ints:
    known: Ints = opening + np.floor(opening * rate * np.arange(days)).astype(np.int64)
    return known


def _joining(known: Ints, day: int) -> Ints:
    return np.arange(known[day - 1] if day else 0, known[day])


def _some(rng: np.random.Generator, known: int, rate: float) -> Ints:
    return np.sort(rng.choice(known, rng.binomial(known, rate), replace=False, shuffle=False))


def _with_dirty_copies(
    rng: np.random.Generator, entity: str, told: Ints, known: int, rate: float
) -> tuple[Ints, NDArray[np.int8]]:
    # Dirt comes as further rows, each of another member: what a fault hides is then told elsewhere, and what
    # the warehouse should hold does not depend on it.
    dirty = min(int(rng.binomial(told.size, rate)), most_dirt(told.size), known)
    copies = rng.choice(known, dirty, replace=False, shuffle=False)
    return (
        np.concatenate([told, copies]),
        np.concatenate([np.zeros(told.size, dtype=np.int8), pick_faults(rng, entity, dirty)]),
    )


def _times(rng: np.random.Generator, on: date, first_hour: int, end_hour: int, count: int) -> pl.Series:
    seconds = rng.integers(first_hour * 3600, end_hour * 3600, count)
    return pl.Series(np.datetime64(on, "us") + seconds.astype("timedelta64[s]"))


def _retail_price(cents: NDArray[np.float64]) -> Ints:
    prices: Ints = np.maximum(np.round(cents / 50).astype(np.int64) * 50 - 1, 99)
    return prices
