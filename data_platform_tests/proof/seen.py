"""Which cases of the design's list a stream met, told by its record alone and never by what its generator intended.

A case about what is staged is met where that reached a publish. A case about the order of arrival is met where a
publish that was no rebuild took it in, judged by what was published before and after it. An entry that names several
things (`null attributes both ways`) is met where all of them were; PARTS has them one by one.
"""

from collections.abc import Callable

from data_platform_tests.cases import DESIGN_LIST
from data_platform_tests.proof.delivered import Trace
from data_platform_tests.proof.seen_deliveries import DELIVERIES
from data_platform_tests.proof.seen_dimensions import DIMENSIONS
from data_platform_tests.proof.seen_facts import FACTS
from data_platform_tests.proof.seen_record import Record, record_of
from data_platform_tests.proof.seen_staging import STAGING

PARTS: dict[str, tuple[Callable[[Record], bool], ...]] = DIMENSIONS | DELIVERIES | FACTS | STAGING


def _detector(parts: tuple[Callable[[Record], bool], ...]) -> Callable[[Trace], bool]:
    def seen(trace: Trace) -> bool:
        record = record_of(trace)
        return all(part(record) for part in parts)

    seen.__doc__ = " And: ".join(part.__doc__ or "" for part in parts)
    return seen


SEEN: dict[str, Callable[[Trace], bool]] = {entry: _detector(PARTS[entry]) for entry in DESIGN_LIST}


def cases_met(trace: Trace) -> set[str]:
    """The entries of the design's list that a stream met."""
    return {entry for entry, seen in SEEN.items() if seen(trace)}
