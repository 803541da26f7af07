"""Dagster's UI in a headless Chromium, driven as a person drives it: pages, and a backfill by clicks.

For tests and for the pictures in docs. Needs Playwright (the extra `browser`) and the system's Chromium.
"""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, Request, Response, sync_playwright

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
GROUPS = ("raw", "staging", "warehouse", "marts")
PATIENCE = 60_000  # milliseconds
# From the click to the end: the daemon looks for backfills every half minute, and a run begins in a process of its own.
BACKFILL_PATIENCE = 240_000


def chromium() -> str | None:
    """The program, or None where none is installed."""
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


@dataclass
class Ui:
    """A page of the UI at `url`. `complaints` has what the browser found wrong: errors of scripts, failed requests."""

    url: str
    page: Page
    complaints: list[str] = field(default_factory=list)

    def lineage(self) -> Locator:
        """The graph of all assets with its groups opened; gives the boxes in it."""
        opened = ",".join(f"global@global:{group}" for group in GROUPS)
        self._open(f"/asset-groups?expanded={opened}")
        self.page.get_by_text("fact_sales", exact=True).first.wait_for()
        self.page.get_by_text("Loading").first.wait_for(state="hidden")
        self._settle()
        return self.page.locator("foreignObject")

    def asset(self, name: str) -> Locator:
        """An asset's page; gives the cells of its table of columns."""
        self._open(f"/assets/{quote(name)}?view=overview")
        self.page.get_by_text("Column name").wait_for()
        self._settle()
        return self.page.get_by_role("table").get_by_role("cell")

    def check(self, asset: str, name: str) -> Locator:
        """The page of an asset's check; gives the plots of what it measured."""
        self._open(f"/assets/{quote(asset)}?view=checks&checkDetail={quote(name)}")
        self.page.get_by_text("Latest execution").wait_for()
        plots = self.page.locator("canvas")
        plots.first.wait_for()
        self._settle()
        return plots

    def choose_backfill(self, job: str, first: str, last: str) -> Locator:
        """The dialog that launches a job, with the partitions from first to last chosen in it."""
        self._open(f"/locations/data_platform/jobs/{job}")
        self.page.get_by_role("button", name="Materialize all").click()
        dialog = self.page.get_by_role("dialog")
        # Partitions older than three months are left out until one says so.
        older, box = dialog.get_by_text("Show all partitions"), dialog.locator("input[type=text]")
        older.or_(box.and_(dialog.get_by_placeholder("ex:"))).first.wait_for()
        if older.is_visible():
            older.click()
        box.fill(f"[{first}...{last}]")
        box.press("Enter")
        dialog.get_by_role("button", name="Launch backfill", disabled=False).wait_for()
        return dialog

    def launch(self, dialog: Locator) -> str:
        """Launch what was chosen, and wait on its page until it is over; gives how it ended, such as Succeeded."""
        dialog.get_by_role("button", name="Launch backfill").click()
        self.page.get_by_text("View", exact=True).click()
        status = self.page.get_by_text("Status", exact=True).locator("xpath=following-sibling::*")
        over = status.get_by_text(re.compile("^(Succeeded|Failed|Completed|Canceled)$"))
        over.wait_for(timeout=BACKFILL_PATIENCE)
        return over.inner_text()

    def picture(self, path: Path) -> None:
        """What the window shows, as PNG."""
        self.page.screenshot(path=path)

    def _open(self, path: str) -> None:
        self.page.goto(self.url + path)

    def _settle(self) -> None:
        self.page.wait_for_load_state("networkidle")

    def note_console(self, message: ConsoleMessage) -> None:
        """An error on the console is a complaint."""
        if message.type == "error":
            self.complaints.append(f"console: {message.text}")

    def note_response(self, response: Response) -> None:
        """An answer that tells of an error is a complaint."""
        if response.status >= 400:
            self.complaints.append(f"HTTP {response.status}: {response.url}")

    def note_failure(self, request: Request) -> None:
        """A request without an answer is a complaint, unless the page that wanted it was left."""
        if request.failure != "net::ERR_ABORTED":
            self.complaints.append(f"{request.failure}: {request.url}")


@contextmanager
def browser(program: str) -> Iterator[Browser]:
    """A headless Chromium that calls nobody but who it is sent to."""
    arguments = ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars"]
    if os.geteuid() == 0:
        arguments.append("--no-sandbox")  # Chromium's sandbox refuses root
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=program, args=arguments)
        try:
            yield opened
        finally:
            opened.close()


@contextmanager
def ui(opened: Browser, url: str, size: tuple[int, int], scale: float = 1.0) -> Iterator[Ui]:
    """The UI at `url` in a window of `size` pixels, drawn at `scale`."""
    page = opened.new_page(viewport={"width": size[0], "height": size[1]}, device_scale_factor=scale)
    page.set_default_timeout(PATIENCE)
    found = Ui(url.rstrip("/"), page)
    page.on("console", found.note_console)
    page.on("response", found.note_response)
    page.on("requestfailed", found.note_failure)
    page.on("pageerror", lambda error: found.complaints.append(f"script: {error}"))
    try:
        yield found
    finally:
        page.close()
