"""Days and their spans, for people and for runs."""

from collections.abc import Collection, Iterable
from datetime import date, timedelta

ONE_DAY = timedelta(days=1)


def spans(days: Iterable[date], most: int | None = None) -> list[list[date]]:
    """Days in order, those that follow one another together: at most `most` of them."""
    found: list[list[date]] = []
    for day in sorted(days):
        if found and found[-1][-1] + ONE_DAY == day and (most is None or len(found[-1]) < most):
            found[-1].append(day)
        else:
            found.append([day])
    return found


def in_words(days: Collection[date]) -> str:
    """Days, for people: `2024-01-05…2024-01-07, 2024-01-10`."""
    told = [f"{span[0]}…{span[-1]}" if len(span) > 1 else str(span[0]) for span in spans(days)]
    return ", ".join(told[:5]) + (f" and {len(told) - 5} more" if len(told) > 5 else "")


def days_between(first: date, last: date) -> list[date]:
    """Every day from first to last; none where first is after last."""
    return [first + n * ONE_DAY for n in range((last - first).days + 1)]
