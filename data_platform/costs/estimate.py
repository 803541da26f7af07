"""What so many orders a day would take over some years, extrapolated from what was measured, with what it assumes."""

import statistics
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property

from data_platform.contracts import MARTS, STAGED, WAREHOUSE
from data_platform.costs.measured import MEMBERS, Measured
from data_platform.costs.prices import Price
from data_platform.costs.recording import FACTS_STEP
from data_platform.costs.report import GB, LAKE_LAYERS, compute_cost, rounded, storage_price, transfer_cost
from data_platform.costs.spending import Step
from data_platform.costs.unit_costs import UnitCost, fit
from data_platform.errors import PlatformError

DAYS, MONTHS = 365, 12
# Beyond so many times of what was measured it is said that it is a guess.
MOST_TIMES = 10
LEAST_RUNS, LEAST_FACTS = 5, 10_000
BOOKKEEPING = "platform (schema)"


@dataclass(frozen=True)
class Scenario:
    """What is asked: orders a day over some years, from nothing. What is None is as measured."""

    orders_per_day: int
    years: int
    lines_per_order: float | None = None
    products: int | None = None
    customers: int | None = None


@dataclass(frozen=True)
class AssetEstimate:
    """An asset in the last year: what a day's run takes, and what is stored at the year's end."""

    asset: str
    layer: str
    rows: float
    seconds: float
    cpu_seconds: float
    storage: float


@dataclass(frozen=True)
class YearEstimate:
    """A year as a whole, and its money where there are prices; storage is at its end, in bytes."""

    year: int
    cpu_hours: float
    seconds_per_day: float
    lake: float
    database: float
    money: Decimal | None = None


@dataclass(frozen=True)
class Estimate:
    """The years, the assets of the last of them, and in sentences what it assumes and where it is a guess."""

    years: Sequence[YearEstimate]
    assets: Sequence[AssetEstimate]
    assumptions: Sequence[str]
    warnings: Sequence[str]


def estimate(measured: Measured, scenario: Scenario, price: Price | None) -> Estimate:
    """Extrapolate; raises PlatformError where nothing was measured that it could go by."""
    if not measured.steps:
        raise PlatformError(
            "Nothing is measured yet that an estimate could go by: run some days (`data-platform backfill`) first."
        )
    if not scenario.lines_per_order and not measured.lines_per_order:
        raise PlatformError("There are no facts yet to count lines by: give --lines-per-order.")
    world = _World(measured, scenario)
    years = [world.year(number, price) for number in range(1, scenario.years + 1)]
    return Estimate(years, world.assets(scenario.years), list(_assumptions(world)), list(_warnings(world)))


def storage_after(measured: Measured, scenario: Scenario, days: int) -> dict[str, float]:
    """Bytes of every asset after so many days of the scenario; both fact tables under fact_sales."""
    return _World(measured, scenario).storage(days)


class _World:
    """The scenario, in rows: how many each step works on a day, and each table has after so many days."""

    def __init__(self, measured: Measured, scenario: Scenario) -> None:
        self.measured, self.scenario = measured, scenario
        self.lines = scenario.orders_per_day * (scenario.lines_per_order or measured.lines_per_order)
        asked = {"customers": scenario.customers, "products": scenario.products}
        self.members = {name: asked[name] or measured.members[name] for name in MEMBERS}
        self.delivered: dict[str, float] = {"orders": self.lines}
        self.factor: dict[str, float] = {}
        for entity in MEMBERS:
            # Not the first, which as a rule brings all of them.
            later = [rows for _, rows in sorted(measured.deliveries[entity].items())[1:]]
            usual = statistics.median(later) if later else sum(measured.deliveries[entity].values())
            known = measured.members[entity]
            self.factor[entity] = self.members[entity] / known if known else 1.0
            self.delivered[entity] = usual * self.factor[entity]

    @cached_property
    def units(self) -> dict[str, "_Units"]:
        """What each step takes, by its name."""
        by_step: dict[str, list[Step]] = defaultdict(list)
        for step in self.measured.steps:
            by_step[step.step].append(step)
        return {name: _Units.of(steps) for name, steps in by_step.items()}

    def rows(self, unit: "_Units", day: float) -> float:
        """The rows that a step works on, on the given day."""
        asset = unit.asset
        if not unit.counts_rows:
            return 0.0
        if asset in MARTS:
            # As they refresh: the dates of a day's lines, their month, and everything.
            return {
                "mart_daily_sales": self.lines,
                "mart_product_performance": self.lines * DAYS / MONTHS,
                "mart_customer_value": self.scenario.orders_per_day * day,
            }[asset]
        entity = _entity(asset)
        return self.delivered[entity] if entity else 0.0

    def storage(self, days: int) -> dict[str, float]:
        """Bytes of every asset, from nothing after so many days."""
        found: dict[str, float] = {}
        for entity, contract in STAGED.items():
            for asset in (f"raw_{entity}", contract.table):
                a_day = self.measured.files[asset].of(self.delivered[entity])
                found[asset] = days * a_day * (1 + self.measured.extra[asset])
        for table, rows in self._table_rows(days).items():
            size = self.measured.tables[table]
            found[table] = (size.empty if size.rows else 0) + size.per_row * rows
        found["fact_sales"] += found.pop("fact_returns")
        found[BOOKKEEPING] = self.measured.bookkeeping * days
        return found

    def _table_rows(self, days: int) -> dict[str, float]:
        tables, known = self.measured.tables, self.measured.members
        delivered = sum(self.measured.deliveries["orders"].values())
        rows = {
            table: tables[table].rows / delivered * self.lines * days if delivered else 0.0
            for table in ("fact_sales", "fact_returns")
        }
        for entity, (table, _) in MEMBERS.items():
            loaded = len(self.measured.deliveries[entity])
            more = max(tables[table].rows - known[entity], 0) / loaded if loaded else 0.0
            rows[table] = self.members[entity] + more * self.factor[entity] * days
        months = max(days * MONTHS / DAYS, 1)
        sold = tables["mart_product_performance"].rows / max(self.measured.months * known["products"], 1)
        bought = tables["mart_customer_value"].rows / max(known["customers"], 1)
        return rows | {
            "dim_date": days + DAYS,
            "mart_daily_sales": days,
            "mart_product_performance": sold * self.members["products"] * months,
            "mart_customer_value": bought * self.members["customers"],
        }

    def facts(self, days: int) -> float:
        """Rows of both fact tables after so many days."""
        rows = self._table_rows(days)
        return rows["fact_sales"] + rows["fact_returns"]

    def year(self, number: int, price: Price | None) -> YearEstimate:
        """The year of that number, from 1."""
        middle = (number - 0.5) * DAYS
        seconds, cpu, read, written = (
            sum(getattr(unit, name).of(self.rows(unit, middle)) for unit in self.units.values())
            for name in ("seconds", "cpu_seconds", "bytes_read", "bytes_written")
        )
        before, after = (self._by_place(days) for days in ((number - 1) * DAYS, number * DAYS))
        money = None
        if price is not None:
            time = compute_cost(_decimal(seconds), _decimal(cpu), price)
            moved = transfer_cost(_decimal(read), _decimal(written), price)
            kept = sum(
                _decimal(before[place] + after[place]) / 2 / GB * storage_price(layer, price)
                for place, layer in (("lake", "raw"), ("database", "warehouse"))
            )
            money = rounded((time + moved) * DAYS + (kept + price.fixed_month) * MONTHS)
        return YearEstimate(number, cpu * DAYS / 3600, seconds, after["lake"], after["database"], money)

    def _by_place(self, days: int) -> dict[str, float]:
        found = {"lake": 0.0, "database": 0.0}
        for asset, size in (self.storage(days) if days else {}).items():
            found["lake" if _layer(asset) in LAKE_LAYERS else "database"] += size
        return found

    def assets(self, years: int) -> list[AssetEstimate]:
        """Every asset at the end of that year, the slowest first."""
        day = years * DAYS
        stored = self.storage(day)
        found = []
        for asset in dict.fromkeys([*(unit.asset for unit in self.units.values()), *stored]):
            units = [unit for unit in self.units.values() if unit.asset == asset]
            rows = {unit.step: self.rows(unit, day) for unit in units}
            seconds, cpu = (
                sum(getattr(unit, name).of(rows[unit.step]) for unit in units) for name in ("seconds", "cpu_seconds")
            )
            worked = max(rows.values(), default=0.0)
            found.append(AssetEstimate(asset, _layer(asset), worked, seconds, cpu, stored.get(asset, 0.0)))
        return sorted(found, key=lambda one: -one.seconds)


@dataclass(frozen=True)
class _Units:
    """What a step takes: each amount as a fixed part and one per row; the fewest and the most rows measured."""

    step: str
    asset: str
    seconds: UnitCost
    cpu_seconds: UnitCost
    bytes_read: UnitCost
    bytes_written: UnitCost
    least: int
    most: int

    @classmethod
    def of(cls, steps: Sequence[Step]) -> "_Units":
        """From the measured runs of one step."""
        amounts = {
            name: fit([(step.rows, float(getattr(step, name))) for step in steps])
            for name in ("seconds", "cpu_seconds", "bytes_read", "bytes_written")
        }
        sizes = [step.rows for step in steps]
        return cls(steps[0].step, steps[0].asset, **amounts, least=min(sizes), most=max(sizes))

    @property
    def counts_rows(self) -> bool:
        """Whether its size is one of rows at all: what only looks has none."""
        return self.most > 0


def _layer(asset: str) -> str:
    if asset.startswith("raw_"):
        return "raw"
    if asset.startswith("stg_"):
        return "staging"
    return "warehouse" if asset in WAREHOUSE else "marts" if asset in MARTS else "platform"


def _entity(asset: str) -> str | None:
    if asset in ("fact_sales", "fact_returns"):
        return "orders"
    by_table = {table: entity for entity, (table, _) in MEMBERS.items()}
    return by_table.get(asset) or next(
        (entity for entity in STAGED if asset in (f"raw_{entity}", f"stg_{entity}")), None
    )


def _decimal(amount: float) -> Decimal:
    return Decimal(repr(amount))


# In words


def _assumptions(world: _World) -> Iterator[str]:
    """What the figures rest on."""
    steps = world.measured.steps
    first, last = min(step.day for step in steps), max(step.day for step in steps)
    yield (
        f"Measured from {first} to {last}: {len({step.run_id for step in steps})} runs, {len(steps)} steps that "
        "succeeded."
    )
    yield (
        f"One run a day, of {world.lines:,.0f} order lines ({world.lines / world.scenario.orders_per_day:.2f} an "
        f"order), of {world.delivered['products']:,.0f} rows of products and {world.delivered['customers']:,.0f} of "
        f"customers; {world.members['products']:,} products and {world.members['customers']:,} customers in all."
    )
    if facts := world.units.get(FACTS_STEP):
        yield (
            f"A publish of facts was measured with {facts.least:,} to {facts.most:,} lines; the estimate is for "
            f"{world.lines / max(facts.most, 1):.2g} times the most."
        )
    yield "A step takes a fixed time and a time per row, by a line through what was measured that outliers do not move."
    alike = [unit.step for unit in world.units.values() if unit.counts_rows and not unit.seconds.separated]
    if alike:
        yield f"Of {', '.join(sorted(alike))} the sizes were too much alike to tell the two: all counts as per row."
    yield (
        "A run refreshes in mart_daily_sales a day's lines, in mart_product_performance a month's, and in "
        "mart_customer_value all orders so far. What else looks through history takes as long as it does now."
    )
    yield (
        "Storage starts from nothing; a row takes up what it does now, nothing is ever removed, and tables that are "
        "written day by day may need more than those of one large load."
    )
    yield "Not in it: what Postgres computes, Dagster's own database and the start of its processes, landing files."


def _warnings(world: _World) -> Iterator[str]:
    """Where it is a guess."""
    facts, steps = world.measured.facts, [step for step in world.measured.steps if step.step == FACTS_STEP]
    largest = max((step.rows for step in steps), default=0)
    if len(steps) < LEAST_RUNS:
        yield f"Only {len(steps)} runs published facts: under {LEAST_RUNS} say little of the time that one takes."
    elif all(step.partitions != 1 for step in steps):
        yield "No run was of a single day: what one takes beside its rows is not known well."
    if world.lines > MOST_TIMES * largest:
        yield (
            f"A day has {world.lines / max(largest, 1):,.0f} times the lines of the largest publish that was measured: "
            f"beyond {MOST_TIMES} times the time is a guess."
        )
    if (rows := world.facts(world.scenario.years * DAYS)) > MOST_TIMES * facts:
        yield (
            f"At the end there are {rows / max(facts, 1):,.0f} times the facts that there are now: beyond {MOST_TIMES} "
            "times storage, and the time of mart_customer_value, are a guess."
        )
    if facts < LEAST_FACTS:
        yield (
            f"There are {facts:,} facts: under {LEAST_FACTS:,} a row seems larger than it is, since pages are not full."
        )
