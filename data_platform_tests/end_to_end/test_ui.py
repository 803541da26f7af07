"""Dagster's UI over demo data in a real browser: what its pages show, and a backfill started by clicks."""

import json
from collections.abc import Iterator
from datetime import date, timedelta

import pytest

from data_platform.contracts import STAGED
from data_platform.datasets.demo_shop import ShopSize, generate
from data_platform_tests.conftest import throw_away
from data_platform_tests.end_to_end.processes import Processes, processes

pytest.importorskip("playwright", reason="the extra `browser` is not installed (Playwright)")

from data_platform_tests.end_to_end.browser import Ui, browser, chromium, ui

FIRST, DAYS, LOADED = date(2024, 1, 1), 20, 18
LEFT = [str(FIRST + timedelta(days=number)) for number in range(LOADED, DAYS)]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(chromium() is None, reason="no Chromium on PATH (Debian, Ubuntu: apt install chromium)"),
]


@pytest.fixture(scope="module")
def platform(server: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    """A demo shop of which all days but the last two are loaded."""
    home = tmp_path_factory.mktemp("ui")
    generate(home / "landing", start=FIRST, size=ShopSize(customers=200, products=50, orders_per_day=60, days=DAYS))
    with throw_away(server, template) as warehouse, throw_away(server) as dagster:
        places = {"DATA_PLATFORM_WAREHOUSE_URL": warehouse, "DATA_PLATFORM_DAGSTER_URL": dagster}
        with processes(home, places) as platform:
            platform.command("backfill", "--from", str(FIRST), "--to", str(FIRST + timedelta(days=LOADED - 1)))
            yield platform


@pytest.fixture
def opened(platform: Processes) -> Iterator[Ui]:
    program = chromium()
    assert program is not None
    with browser(program) as chrome, ui(chrome, platform.url, (1500, 1100)) as opened:
        yield opened
        assert opened.complaints == []


def test_the_graph_shows_all_layers(opened: Ui) -> None:
    opened.page.set_viewport_size({"width": 2700, "height": 4300})  # what is outside of the window is not drawn
    shown = " ".join(opened.lineage().all_text_contents())
    for name in ("raw_orders", "raw_products", "raw_customers", "fact_sales", "fact_returns", "mart_daily_sales"):
        assert name in shown


def test_an_assets_page_shows_its_columns_with_types_and_descriptions(opened: Ui) -> None:
    cells = opened.asset("stg_orders").all_inner_texts()
    for column in STAGED["orders"].columns.values():
        assert column.name in cells
        assert column.description in cells
    assert "numeric(18,4)" in cells


def test_a_checks_page_shows_its_result_its_figures_and_plots(opened: Ui) -> None:
    plots = opened.check("stg_orders", "rows_balance")
    assert plots.count() > 0
    assert opened.page.get_by_text("Passed").first.is_visible()
    assert opened.page.get_by_text("delivery_is_accepted").first.is_visible()


def test_a_backfill_that_was_started_by_clicks_finishes_and_its_days_are_there(platform: Processes, opened: Ui) -> None:
    def waiting() -> str:
        return json.dumps(json.loads(platform.command("status", "--json"))["waiting"])

    before = waiting()
    assert all(f'"{day}"' in before for day in LEFT)
    dialog = opened.choose_backfill("daily_sales", LEFT[0], LEFT[-1])
    assert "2 partitions" in dialog.inner_text()
    assert opened.launch(dialog) == "Succeeded"
    after = waiting()
    assert not any(f'"{day}"' in after for day in LEFT)
    assert [run.status for run in platform.runs()] == ["SUCCESS", "SUCCESS"]
