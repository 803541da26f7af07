"""Takes the pictures of the UI that README and docs show into docs/: lineage, an asset, a check, and a backfill.

Needs Chromium and a UI that runs: `make demo`, then `make ui`, then `.venv/bin/python -m docs.make_pictures` beside it.
The backfill is a real one, of the days --backfill names; over days that are loaded already it writes nothing.
"""

import argparse
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Error as BrowserError

from data_platform_tests.end_to_end.browser import Ui, browser, chromium, ui

DOCS = Path(__file__).resolve().parent
SCALE, SMALL = 0.55, 0.4  # they are looked at beside text


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--url", default="http://127.0.0.1:3000", help="of the UI (default: %(default)s)")
    options.add_argument("--backfill", nargs=2, metavar=("FIRST", "LAST"), default=("2024-03-28", "2024-03-30"),
                         help="the days of the backfill (default: the last of the demo's)")  # fmt: skip
    options.add_argument("--out", type=Path, default=DOCS, help="folder for the pictures (default: docs)")
    chosen = options.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)

    program = chromium()
    if program is None:
        return _fail("no Chromium on PATH: install it (Debian, Ubuntu: apt install chromium).")
    try:
        with urllib.request.urlopen(f"{chosen.url}/server_info", timeout=10):
            pass
    except (urllib.error.URLError, TimeoutError) as error:
        return _fail(f"no UI answers on {chosen.url} ({error}): start it with make ui.")

    first, last = chosen.backfill
    pictures: tuple[tuple[str, tuple[int, int], float, Callable[[Ui], object]], ...] = (
        ("lineage", (2700, 4300), SMALL, Ui.lineage),
        ("mart_daily_sales", (2100, 1700), SCALE, lambda shown: shown.asset("mart_daily_sales")),
        ("check", (1900, 1300), SCALE, lambda shown: shown.check("stg_orders", "order_date_in_window")),
        ("backfill", (1700, 1150), SCALE, lambda shown: shown.choose_backfill("daily_sales", first, last)),
        (
            "backfill_done",
            (1700, 520),
            SCALE,
            lambda shown: shown.launch(shown.choose_backfill("daily_sales", first, last)),
        ),
    )
    try:
        with browser(program) as opened:
            for name, size, scale, show in pictures:
                with ui(opened, chosen.url, size, scale) as shown:
                    show(shown)
                    shown.picture(chosen.out / f"{name}.png")
                print(chosen.out / f"{name}.png")
    except BrowserError as error:
        return _fail(f"{program} did not get to the picture: {error.message.splitlines()[0]}")
    return 0


def _fail(sentence: str) -> int:
    print(sentence, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
