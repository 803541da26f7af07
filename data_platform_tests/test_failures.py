"""How an error of ours ends a step: which are tried again, in which runs, how often and after how long."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.execution.api import execute_run
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin

from data_platform import failures
from data_platform.errors import DatabaseUnavailable, PlatformError, PublishRefused, SourceUnavailable
from data_platform.failures import JITTER, RETRIES, explained, failure
from data_platform.settings import read_settings


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


# Retries


class Flaky:
    """An asset that fails with the next of some errors, in its body or as it is stored, then works."""

    def __init__(self, *errors: BaseException, stored: bool = False) -> None:
        self.errors, self.tries = list(errors), 0

        class Storing(dg.IOManager):
            def handle_output(inner, context: dg.OutputContext, obj: Any) -> None:  # noqa: N805
                if stored:
                    self.try_it()

            def load_input(inner, context: dg.InputContext) -> None: ...  # noqa: N805

        @dg.asset(io_manager_def=Storing())
        def flaky() -> int:
            if not stored:
                self.try_it()
            return 1

        self.job = dg.Definitions(
            assets=[flaky], jobs=[dg.define_asset_job("one", executor_def=dg.in_process_executor)]
        ).resolve_job_def("one")

    def try_it(self) -> None:
        self.tries += 1
        with explained():
            if self.errors:
                raise self.errors.pop(0)

    def by_the_daemon(self) -> tuple[bool, list[float], list[str]]:
        """Run as the daemon runs it: whether it succeeded, the seconds before each retry, the sentences at the end."""
        origin = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("data_platform"), "__repository__")
        with dg.DagsterInstance.ephemeral() as instance:
            run = instance.create_run_for_job(self.job, remote_job_origin=RemoteJobOrigin(origin, "one"))
            events = execute_run(InMemoryJob(self.job), run, instance, raise_on_error=False).all_events
        waits = [event.step_retry_data.seconds_to_wait or 0.0 for event in events if event.is_step_up_for_retry]
        failed = [event.step_failure_data for event in events if event.is_step_failure]
        said = [str(data.user_failure_data.description) for data in failed if data.user_failure_data]
        return not failed, waits, said


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Delays of milliseconds."""
    monkeypatch.setattr(failures, "settings", lambda: replace(read_settings({}), retry_delay=0.01))


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.usefixtures("quick")
def test_what_may_pass_is_tried_again_after_twice_as_long_each_time(stored: bool) -> None:
    flaky = Flaky(*(DatabaseUnavailable("Down.") for _ in range(RETRIES)), stored=stored)
    succeeded, waits, _ = flaky.by_the_daemon()
    assert succeeded
    assert waits == pytest.approx([0.01, 0.02, 0.04], rel=JITTER)
    assert len(set(waits)) == RETRIES


@pytest.mark.usefixtures("quick")
def test_after_three_retries_the_step_fails_with_its_sentence() -> None:
    flaky = Flaky(*(SourceUnavailable(f"Down {number}.") for number in range(9)))
    succeeded, waits, said = flaky.by_the_daemon()
    assert not succeeded
    assert (len(waits), said) == (3, ["Down 3."])


@pytest.mark.parametrize("error", [PublishRefused("Mend it."), PlatformError("Mend it."), ValueError("nobody foresaw")])
@pytest.mark.usefixtures("quick")
def test_what_does_not_pass_and_what_nobody_foresaw_ends_the_step_at_once(error: Exception) -> None:
    flaky = Flaky(error)
    succeeded, waits, _ = flaky.by_the_daemon()
    assert (succeeded, waits, flaky.tries) == (False, [], 1)


@pytest.mark.usefixtures("quick")
def test_a_run_that_is_cancelled_does_not_go_on() -> None:
    flaky = Flaky(KeyboardInterrupt())
    succeeded, waits, _ = flaky.by_the_daemon()
    assert (succeeded, waits, flaky.tries) == (False, [], 1)


def test_where_a_person_waits_nothing_is_tried_again() -> None:
    flaky = Flaky(DatabaseUnavailable("Down."))
    assert not flaky.job.execute_in_process(raise_on_error=False).success
    assert flaky.tries == 1


def test_the_delay_is_a_setting_and_none_stands_for_no_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_settings({}).retry_delay == 300
    monkeypatch.setattr(failures, "settings", lambda: read_settings({"DATA_PLATFORM_RETRY_DELAY": "0"}))
    flaky = Flaky(DatabaseUnavailable("Down."))
    assert flaky.by_the_daemon() == (False, [], ["Down."])
