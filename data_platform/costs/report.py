"""What was spent in a period, by asset, month, layer or run: figures, and money where prices.yaml has some.

Money is rounded once, to MILLIONTHS, of each step, of each asset's storage of a month and of a month's fixed costs.
Whatever the lines are by, their sums are of these, so that they always add up to the same total.
"""

import calendar
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from datetime import date
from decimal import Decimal
from itertools import groupby
from typing import Literal

from data_platform.costs.prices import Price, Prices
from data_platform.costs.spending import Spending, Step, Storage
from data_platform.days import ONE_DAY, days_between

By = Literal["asset", "month", "layer", "run"]
GB = Decimal(10) ** 9
HOUR = Decimal(3600)
MILLIONTHS = Decimal("0.000001")
BYTES = Decimal("0.000000001")  # of a GB
# What belongs to no line: money that is for no asset, or for no run.
FIXED, STORED = "(fixed)", "(storage)"
LAKE_LAYERS = ("raw", "staging")


@dataclass
class Line:
    """The sums of some steps and storage. Sizes in bytes, `gb_months` of storage; money in the currency of prices.

    `steps` and all that follows add up; `run_ids` do not, since a run has steps in many lines.
    """

    name: str
    steps: int = 0
    failed: int = 0
    seconds: Decimal = Decimal(0)
    cpu_seconds: Decimal = Decimal(0)
    rows: int = 0
    rows_written: int = 0
    bytes_read: int = 0
    bytes_written: int = 0
    storage_growth: int = 0
    gb_months: Decimal = Decimal(0)
    compute: Decimal = Decimal(0)
    transfer: Decimal = Decimal(0)
    storage: Decimal = Decimal(0)
    fixed: Decimal = Decimal(0)
    run_ids: set[str] = field(default_factory=set)

    @property
    def money(self) -> Decimal:
        """All that it costs."""
        return self.compute + self.transfer + self.storage + self.fixed

    def per_million_rows(self, amount: Decimal) -> Decimal | None:
        """`amount` (of money, of seconds) per million rows; None where there are no rows."""
        return amount * 1_000_000 / self.rows if self.rows else None

    def add(self, other: "Line") -> None:
        """Take in the sums of another."""
        for one in fields(self):
            if one.name == "run_ids":
                self.run_ids |= other.run_ids
            elif one.name != "name":
                setattr(self, one.name, getattr(self, one.name) + getattr(other, one.name))


@dataclass(frozen=True)
class Report:
    """Lines, the most expensive first (months in their order), and their total over the days from first to last.

    `unpriced`: days of the period before the first price, none where there are no prices at all.
    """

    first: date
    last: date
    lines: Sequence[Line]
    total: Line
    unpriced: int = 0


def cost_report(spending: Spending, prices: Prices | None, *, first: date, last: date, by: By) -> Report:
    """What was spent from `first` to `last`, which must not be in the future: storage counts up to then."""
    lines: dict[str, Line] = {}
    total = Line("total")
    for name, line in _atoms(spending, prices, first, last, by):
        lines.setdefault(name, Line(name)).add(line)
        total.add(line)
    ordered = sorted(lines.values(), key=lambda line: line.name)
    if by != "month":
        ordered.sort(key=lambda line: (-line.money, -line.seconds))
    unpriced = max(0, (min(last + ONE_DAY, prices.first_day) - first).days) if prices is not None else 0
    return Report(first, last, ordered, total, unpriced)


def step_costs_by_day(spending: Spending, prices: Prices, days: Iterable[date]) -> dict[date, Decimal]:
    """What the steps of each of `days` cost, without storage and what is fixed."""
    costs = dict.fromkeys(days, Decimal(0))
    for step in spending.steps:
        if step.day in costs:
            costs[step.day] += _of_step(step, prices.at(step.day)).money
    return costs


def _atoms(spending: Spending, prices: Prices | None, first: date, last: date, by: By) -> Iterator[tuple[str, Line]]:
    """What is rounded as one, with the name of the line that it belongs to."""
    for step in spending.steps:
        if first <= step.day <= last:
            name = {"asset": step.asset, "month": month_of(step.day), "layer": step.layer, "run": step.run_id}[by]
            yield name, _of_step(step, prices.at(step.day) if prices else None)
    for stored in spending.storage:
        for month, days in _months(first, last):
            name = {"asset": stored.asset, "month": month, "layer": stored.layer, "run": STORED}[by]
            yield name, _of_storage(stored, days, prices)
    if prices is not None:
        for month, days in _months(first, last):
            fixed = sum(
                (price.fixed_month / days_in_month(day) for day in days if (price := prices.at(day))), Decimal()
            )
            if fixed:
                yield month if by == "month" else FIXED, Line("", fixed=rounded(fixed))


def _of_step(step: Step, price: Price | None) -> Line:
    return Line(
        "",
        steps=1,
        failed=int(step.outcome != "succeeded"),
        seconds=step.seconds,
        cpu_seconds=step.cpu_seconds,
        rows=step.rows,
        rows_written=step.rows_written,
        bytes_read=step.bytes_read,
        bytes_written=step.bytes_written,
        storage_growth=step.growth,
        compute=rounded(compute_cost(step.seconds, step.cpu_seconds, price)) if price else Decimal(0),
        transfer=rounded(transfer_cost(step.bytes_read, step.bytes_written, price)) if price else Decimal(0),
        run_ids={step.run_id},
    )


def compute_cost(seconds: Decimal, cpu_seconds: Decimal, price: Price) -> Decimal:
    """What time costs: of the CPU, or of the machine."""
    return (price.cpu_hour * cpu_seconds + price.instance_hour * seconds) / HOUR


def transfer_cost(read: int | Decimal, written: int | Decimal, price: Price) -> Decimal:
    """What bytes that are read and written cost."""
    return (price.gb_read * read + price.gb_written * written) / GB


def storage_price(layer: str, price: Price) -> Decimal:
    """What a GB costs a month where the tables of a layer are kept."""
    return price.lake_gb_month if layer in LAKE_LAYERS else price.database_gb_month


def _of_storage(stored: Storage, days: Iterable[date], prices: Prices | None) -> Line:
    gb_months, money = Decimal(0), Decimal(0)
    for day, size in size_by_day(stored, days):
        part = size / GB / days_in_month(day)
        gb_months += part
        price = prices.at(day) if prices else None
        money += part * storage_price(stored.layer, price) if price else Decimal(0)
    return Line("", gb_months=gb_months.quantize(BYTES), storage=rounded(money))


def size_by_day(stored: Storage, days: Iterable[date]) -> Iterator[tuple[date, int]]:
    """Of each of `days`, in order, what was measured last: from the first measurement on."""
    waiting = sorted(stored.sizes.items())
    size: int | None = None
    for day in days:
        while waiting and waiting[0][0] <= day:
            size = waiting.pop(0)[1]
        if size is not None:
            yield day, size


def month_of(day: date) -> str:
    """YYYY-MM."""
    return day.isoformat()[:7]


def days_in_month(day: date) -> int:
    """How many days its month has."""
    return calendar.monthrange(day.year, day.month)[1]


def _months(first: date, last: date) -> list[tuple[str, list[date]]]:
    return [(month, list(days)) for month, days in groupby(days_between(first, last), key=month_of)]


def rounded(amount: Decimal) -> Decimal:
    """Money in millionths."""
    return amount.quantize(MILLIONTHS)
