"""Whether the month stays within its budget: what it has cost so far, and what it seems to come to."""

import statistics
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from data_platform.costs.prices import Budget, Prices
from data_platform.costs.report import (
    GB,
    cost_report,
    days_in_month,
    month_of,
    rounded,
    size_by_day,
    step_costs_by_day,
    storage_price,
)
from data_platform.costs.spending import Spending
from data_platform.days import ONE_DAY, days_between

WINDOW_DAYS = 28
# With less history the usual day is not known: one backfill would be expected every day.
LEAST_DAYS = 7


@dataclass(frozen=True)
class Outlook:
    """The month of `day` up to then, and its projection to the month's end (None where there is too little history)."""

    day: date
    currency: str
    budget: Budget
    so_far: Decimal
    projected: Decimal | None

    @property
    def limit(self) -> Decimal:
        """From where on it is told."""
        return self.budget.month * self.budget.warn_percent / 100

    @property
    def holds(self) -> bool:
        """Whether neither is over the limit."""
        return max(self.so_far, self.projected or Decimal(0)) <= self.limit

    def in_words(self) -> str:
        """Both figures and the budget, in a sentence."""
        comes_to = (
            f"it seems to come to {self.projected:.2f}"
            if self.projected is not None
            else f"what it comes to is not known before {LEAST_DAYS} days are measured"
        )
        return (
            f"{month_of(self.day)} has cost {self.so_far:.2f} {self.currency} up to {self.day}, and {comes_to}; its "
            f"budget is {self.budget.month:.2f}, told of from {self.limit:.2f} on."
        )


def outlook(spending: Spending, prices: Prices, today: date) -> Outlook | None:
    """The month of `today`; None where prices.yaml sets no budget.

    The days to come cost what the usual day did (the median of the last WINDOW_DAYS, so that a backfill is not expected
    again) and keep what is stored today. `spending` must reach back over that window.
    """
    if prices.budget is None:
        return None
    first = today.replace(day=1)
    so_far = cost_report(spending, prices, first=first, last=today, by="month").total.money
    usual = usual_day(spending, prices, today)
    projected = None if usual is None else so_far + _to_come(spending, prices, today, usual)
    return Outlook(today, prices.currency, prices.budget, so_far, projected)


def _to_come(spending: Spending, prices: Prices, today: date, usual: Decimal) -> Decimal:
    amount = Decimal(0)
    end = today.replace(day=days_in_month(today))
    for day in days_between(today + ONE_DAY, end):
        price = prices.at(day)
        if price is None:
            continue
        amount += usual + price.fixed_month / days_in_month(day)
        for stored in spending.storage:
            for _, size in size_by_day(stored, [day]):
                amount += size / GB * storage_price(stored.layer, price) / days_in_month(day)
    return rounded(amount)


def usual_day(spending: Spending, prices: Prices, today: date) -> Decimal | None:
    """What the steps of a day cost, by the median of the days before `today`; None where those are too few."""
    begun = spending.first_day
    days = [day for n in range(WINDOW_DAYS, 0, -1) if begun is not None and (day := today - n * ONE_DAY) >= begun]
    if len(days) < LEAST_DAYS:
        return None
    return statistics.median(step_costs_by_day(spending, prices, days).values())
