"""How an error of ours ends a run."""

import sys
from collections.abc import Iterator

import dagster as dg
import pytest

from data_platform import failures
from data_platform.errors import PublishRefused, SourceUnavailable
from data_platform.failures import explained, failure


@pytest.fixture(autouse=True)
def at_exit(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What was registered to be printed at the end of the process."""
    registered: list[str] = []
    monkeypatch.setattr(failures, "_print_at_exit", lambda: registered.append(failures._last[0]))
    yield registered
    failures._last.clear()


@pytest.mark.parametrize(("error", "transient"), [(SourceUnavailable, True), (PublishRefused, False)])
def test_an_error_of_ours_is_a_failure_with_its_sentence_and_only_a_transient_one_is_retried(
    error: type[Exception], transient: bool
) -> None:
    with pytest.raises(dg.Failure) as caught, explained():
        raise error("Mend it.")
    assert caught.value.description == "Mend it."
    assert caught.value.allow_retries is transient
    assert caught.value.__suppress_context__


def test_an_error_that_is_not_ours_stays_what_it_is() -> None:
    with pytest.raises(ZeroDivisionError), explained():
        raise ZeroDivisionError


@pytest.mark.parametrize(("program", "said"), [
    ("/x/.venv/bin/dagster", True), ("/x/.venv/bin/dg", True), ("/x/site-packages/dagster/__main__.py", True),
    ("/x/.venv/bin/data-platform", False), ("/x/.venv/bin/pytest", False), ("", False),
])  # fmt: skip
def test_the_sentence_is_the_last_line_of_dagsters_own_commands(
    monkeypatch: pytest.MonkeyPatch, at_exit: list[str], program: str, said: bool
) -> None:
    monkeypatch.setattr(sys, "argv", [program])
    failure("Mend this.")
    failure("Mend that.")
    assert at_exit == (["Mend this.", "Mend that."] if said else [])
