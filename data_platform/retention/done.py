"""What a step of the cleanup did, or in a dry run would do: in figures, and in a sentence."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal

Kind = Literal["removed", "moved", "deleted", "vacuumed"]
_UNITS = ("bytes", "kB", "MB", "GB", "TB")


@dataclass(frozen=True)
class Done:
    """What a `step` did to `what` (several things, in words); `given_up`: a sentence of what cannot be had again."""

    step: str
    kind: Kind
    what: str
    days: tuple[date, ...] = ()
    files: int = 0
    bytes: int = 0
    rows: int = 0
    to: str = ""
    given_up: str = ""

    def in_words(self, *, dry_run: bool) -> str:
        """One sentence, of what would be done where `dry_run`, and what is given up by it."""
        figures = [f"{self.files:,} files", in_bytes(self.bytes)] if self.files else []
        figures += [f"{self.rows:,} rows"] if self.rows else []
        of = f" of {_span(self.days)}" if self.days else ""
        held = f" ({', '.join(figures)})" if figures else ""
        verb = "would be" if dry_run else "were"
        to = f" to {self.to}" if self.to else ""
        return f"{self.what}{of}{held} {verb} {self.kind}{to}.{f' {self.given_up}' if self.given_up else ''}"


def in_bytes(count: int) -> str:
    """A number of bytes as people read it."""
    size = float(count)
    for unit in _UNITS[:-1]:
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} {_UNITS[-1]}"


def _span(days: Sequence[date]) -> str:
    first, last = min(days), max(days)
    return f"{first}" if first == last else f"{len(days)} days, {first}…{last}"
