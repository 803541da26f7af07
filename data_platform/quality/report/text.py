"""Words and figures for the page: everything that comes out of data goes through here on its way into HTML."""

import html
import re
from collections.abc import Iterable, Sequence
from datetime import date

from data_platform.quality.masking import masked

# Why a delivery was rejected, with the mend, is 300 characters at times.
_LONGEST = 600
# As notes and rules write commands and settings.
_CODE = re.compile(r"`([^`<>]+)`")


def brief(value: object) -> str:
    """`value` as text of bounded length, without what looks like an e-mail address."""
    shown = masked(str(value))
    return shown if len(shown) <= _LONGEST else f"{shown[: _LONGEST - 1]}…"


def text(value: object) -> str:
    """`value` as it may stand in an element of HTML; what is between backticks is code."""
    return code(html.escape(brief(value)))


def code(markup: str) -> str:
    """HTML whose texts may hold words between backticks, with those as code."""
    return _CODE.sub(r"<code>\1</code>", markup)


def count(number: int, one: str = "", many: str = "") -> str:
    """A whole number, thousands apart, with the noun that fits it."""
    noun = (one if number == 1 else many or f"{one}s") if one else ""
    return f"{number:,} {noun}".rstrip()


def share(part: float, whole: float) -> str:
    """What share `part` is of `whole`; a little is never called nothing, nor nearly all everything."""
    percent = 100 * part / whole if whole else 0.0
    if 0 < percent < 0.1:
        return "less than 0.1 %"
    if 99.9 < percent < 100:
        return "more than 99.9 %"
    return f"{percent:.1f} %"


def span(days: Sequence[date]) -> str:
    """The first and the last of `days`, which are in order."""
    return str(days[0]) if days[0] == days[-1] else f"{days[0]} to {days[-1]}"


def spans(found: Iterable[tuple[date, date]], most: int = 4) -> str:
    """Spans of days, the longest ones where there are many."""
    ordered = list(found)
    shown = sorted(sorted(ordered, key=lambda one: one[0] - one[1])[:most])
    said = ", ".join(span(one) for one in shown)
    return f"{said} and {len(ordered) - most} more" if len(ordered) > most else said


def either(items: Sequence[str]) -> str:
    """Items in a sentence: a, b and c."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"
