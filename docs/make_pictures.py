"""Takes the README's pictures of the UI into docs/: the lineage graph and one asset's page.

Needs Chromium and a UI that runs: `make demo`, then `make ui`, then `.venv/bin/python docs/make_pictures.py` beside it.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
DOCS = Path(__file__).resolve().parent


def main() -> int:
    options = argparse.ArgumentParser(description="Takes pictures of the running UI into docs/.")
    options.add_argument("--url", default="http://127.0.0.1:3000", help="of the UI (default: %(default)s)")
    options.add_argument("--asset", default="mart_daily_sales", help="whose page is taken too (default: %(default)s)")
    options.add_argument("--out", type=Path, default=DOCS, help="folder for the pictures (default: docs)")
    chosen = options.parse_args()
    url = chosen.url.rstrip("/")
    chosen.out.mkdir(parents=True, exist_ok=True)

    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        return _fail("no Chromium on PATH: install it (Debian, Ubuntu: apt install chromium).")
    try:
        with urllib.request.urlopen(f"{url}/server_info", timeout=10):
            pass
    except (urllib.error.URLError, TimeoutError) as error:
        return _fail(f"no UI answers on {url} ({error}): start it with make ui.")

    asset = urllib.parse.quote(chosen.asset)
    # The UI folds groups that are not named here.
    opened = ",".join(f"global@global:{group}" for group in ("raw", "staging", "warehouse", "marts"))
    pages = (
        ("lineage.png", f"/asset-groups?expanded={opened}", (2700, 3000)),
        (f"{chosen.asset}.png", f"/assets/{asset}?view=overview", (2100, 1700)),
    )
    for name, path, size in pages:
        picture = chosen.out.resolve() / name
        if not take(browser, url + path, picture, size):
            return _fail(f"{browser} took no picture of {url}{path}.")
        print(picture)
    return 0


def take(browser: str, url: str, picture: Path, size: tuple[int, int]) -> bool:
    """Whether a PNG of the page at `url`, in a window of `size` pixels, now stands at `picture`."""
    with tempfile.TemporaryDirectory() as profile:
        aside = Path(profile) / "picture.png"
        command = [
            browser,
            "--headless",
            "--disable-gpu",
            "--force-device-scale-factor=0.55",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--hide-scrollbars",
            f"--user-data-dir={profile}/profile",
            f"--window-size={size[0]},{size[1]}",
            "--virtual-time-budget=30000",  # the page goes on loading after its load event
            f"--screenshot={aside}",
            url,
        ]
        if os.geteuid() == 0:
            command.insert(1, "--no-sandbox")  # Chromium's sandbox refuses root
        try:
            subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=180, check=False)
        except subprocess.TimeoutExpired:
            return False
        if not aside.is_file() or aside.stat().st_size < 10_000:  # an empty page is smaller
            return False
        shutil.copyfile(aside, picture)
    return True


def _fail(sentence: str) -> int:
    print(sentence, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
