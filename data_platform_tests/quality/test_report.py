"""The quality report: right figures, in a page that needs no network, runs no script and tells no personal data."""

import re
from collections.abc import Iterator
from datetime import date, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from data_platform.assets.quality import GAPS, TRADING, WAITING, YESTERDAY
from data_platform.assets.raw import ACCEPTED as READ
from data_platform.assets.raw import AGREES, DELIVERED, KNOWN
from data_platform.assets.staging import ACCEPTED
from data_platform.contracts import STAGED, published_contracts
from data_platform.errors import PlatformError
from data_platform.lake import Lake
from data_platform.quality.history import CheckRecord, keep_profiles, remember
from data_platform.quality.masking import MASK
from data_platform.quality.profiles import ColumnProfile, Numbers, Profile, profile
from data_platform.quality.report import Report, write_report
from data_platform.quality.report.findings import described
from data_platform.quality.watch import RULES
from data_platform.transforms.staging import GENERAL_CHECKS
from data_platform.warehouse.audits import DIMENSION_AUDITS, FACT_AUDITS
from data_platform.warehouse.connection import connected
from data_platform.warehouse.publish import BALANCE
from data_platform_tests.shop import Shop, customer, line, open_shop, product

FIRST, SECOND, LAST = "2024-01-05", "2024-01-06", "2024-01-08"  # nothing comes on the 7th
ADDRESS = "ada.lovelace@example.com"
EVIL = "<script>alert(1)</script>"


class Page(HTMLParser):
    """What a browser makes of the page: its elements with attributes, its text, its tooltips."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html = html
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.titles: list[str] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "title":
            self.titles.append(data)
        elif self.open and self.open[-1] != "style":
            self.words.append(data)

    def section(self, name: str) -> str:
        """The text of one section."""
        found = re.search(rf'<section id="{name}">.*?</section>', self.html, re.DOTALL)
        assert found
        return Page(found[0]).text


def report(url: str, lake: Lake, tmp_path: Path, *, landing: Path | None = None, days: int = 30) -> tuple[Page, Report]:
    path = tmp_path / "reports" / "quality.html"
    made = write_report(
        url, lake, str(landing or tmp_path / "landing"), path, start_date=date(2024, 1, 1), timezone="UTC", days=days
    )
    assert path.stat().st_size == made.bytes
    assert [one.name for one in path.parent.iterdir()] == ["quality.html"]
    return Page(path.read_text("utf8")), made


@pytest.fixture
def shop(warehouse_url: str, tmp_path: Path) -> Iterator[Shop]:
    """Orders of three days: 2 exact copies, 3 rejected rows, 6 sales, 1 return; a silent day; names with markup."""
    with open_shop(tmp_path / "home", warehouse_url) as made:
        made.deliver("customers", customer(email=ADDRESS, first_name="Ada"), day=FIRST)
        evil = [
            product("p1", category=EVIL),
            product("p2", product_name=f'"><img src=x onerror=alert(1)>{EVIL}'),
            product("p3", category=ADDRESS),
        ]
        made.deliver("products", *evil, day=FIRST)
        copied = line("o1", day=FIRST)
        made.deliver("orders", copied, copied, copied, line("o2", quantity=-1), line("o3"), day=FIRST)
        made.deliver("orders", line("o4", day=SECOND), line("o5", unit_price="-1", day=SECOND), day=SECOND)
        folder = made.home / "landing" / "orders" / LAST
        # The price is no number, and the last row names no product either.
        unreadable = [line("o9", unit_price=ADDRESS, day=LAST), line("o10", "", unit_price="much", day=LAST)]
        made.deliver("orders", *(line(order, day=LAST) for order in ("o6", "o7", "o8")), *unreadable, day=LAST)
        folder.mkdir()
        made.landing("orders", LAST).rename(folder / "<img src=x onerror=alert(1)>.csv")
        assert made.run(first=FIRST, last=LAST).success
        yield made


def of_shop(shop: Shop, tmp_path: Path) -> tuple[Page, Report]:
    return report(shop.warehouse, shop.lake, tmp_path, landing=shop.home / "landing")


def check(rule: str, day: str | None = LAST, *, passed: bool = False, **values: Any) -> CheckRecord:
    settings = {"asset": "stg_orders", "severity": "warning"} | values
    return CheckRecord(rule=rule, passed=passed, partition_date=date.fromisoformat(day) if day else None, **settings)


def test_a_platform_that_remembers_nothing_says_so_in_every_section(
    warehouse_url: str, lake: Lake, tmp_path: Path
) -> None:
    page, made = report(warehouse_url, lake, tmp_path)
    assert made == Report(0, 0, 0, 0, 0, 0, made.bytes)
    assert "Nothing has been delivered yet" in page.section("findings")
    for section in ("rules", "drift", "quarantine", "completeness", "accounting", "profiles"):
        text = page.section(section)
        assert re.search(r"\b(No|Nothing)\b", text), text
        assert "<table" not in page.html


def test_where_all_passed_nothing_is_wrong(warehouse_url: str, lake: Lake, tmp_path: Path) -> None:
    remember(warehouse_url, "r", [check("kept", passed=True), check("held", None, passed=True)])
    page, made = report(warehouse_url, lake, tmp_path)
    assert page.section("findings").startswith("Nothing is wrong")
    assert "stg_orders: 2 rules never failed" in page.section("rules")
    assert (made.tables, made.rules, made.failed_critical, made.failed_warnings) == (1, 2, 0, 0)


def test_the_page_needs_no_network_and_runs_no_script(shop: Shop, tmp_path: Path) -> None:
    page, _ = of_shop(shop, tmp_path)
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"script", "img", "link", "iframe", "object", "embed", "image", "use"}
    names = {name for _, attributes in page.elements for name in attributes}
    assert not [name for name in names if name.startswith("on") or name in ("src", "srcset", "xlink:href")]
    links = {attributes["href"] for _, attributes in page.elements if "href" in attributes}
    assert links
    assert all(link and link.startswith("#") for link in links)
    assert not re.search(r"https?:|//|@import|url\(", page.html)
    policy = next(attributes for tag, attributes in page.elements if tag == "meta" and "http-equiv" in attributes)
    assert policy["content"] == "default-src 'none'; style-src 'unsafe-inline'"
    assert page.open == []


def test_markup_in_the_data_is_text_on_the_page(shop: Shop, tmp_path: Path) -> None:
    remember(shop.warehouse, "r", [check(EVIL, note=EVIL), check("latest", None, note=EVIL)])
    rows = shop.lake.scan("stg_products", [date.fromisoformat(FIRST)]).rename({"dt": "_partition"})
    found = profile(rows, STAGED["products"])
    with connected(shop.warehouse) as connection:
        keep_profiles(connection, "stg_products", "r", {day: ("", one) for day, one in found.items()})
    page, _ = of_shop(shop, tmp_path)
    assert "script" not in {tag for tag, _ in page.elements}
    assert "<img src=x onerror=alert(1)>.csv" in page.section("quarantine")
    assert EVIL in page.section("profiles")
    assert EVIL in page.section("rules")
    assert any(EVIL in title for title in page.titles)


def test_no_address_is_on_the_page(shop: Shop, tmp_path: Path) -> None:
    remember(
        shop.warehouse, "r", [check("told", note=f"of {ADDRESS}."), check(ADDRESS), check("x", None, note=ADDRESS)]
    )
    for entity, contract in STAGED.items():
        days = shop.lake.days(contract.table)
        found = profile(shop.lake.scan(contract.table, days).rename({"dt": "_partition"}), STAGED[entity])
        with connected(shop.warehouse) as connection:
            keep_profiles(connection, contract.table, "r", {day: ("", one) for day, one in found.items()})
    page, _ = of_shop(shop, tmp_path)
    assert "email" in page.section("profiles")
    for part in (ADDRESS, "lovelace", "example.com"):
        assert part not in page.html
    assert MASK in page.html


def test_what_waits_in_quarantine_is_told_by_reason_without_values(shop: Shop, tmp_path: Path) -> None:
    page, made = of_shop(shop, tmp_path)
    assert made.quarantined_rows == 3
    text = page.section("quarantine")
    assert text.startswith("Quarantine 3 rows wait, the oldest since 2024-01-06")
    assert "Some have several reasons" in text
    age = (date.today() - date.fromisoformat(LAST)).days
    assert re.search(
        rf"unit_price cannot be read as numeric\(18,4\) 2 1 {LAST} {LAST} ({age - 1:,}|{age:,}|{age + 1:,})", text
    )
    assert f"product_id is not given 1 1 {LAST} {LAST}" in text
    assert f"unit_price_not_negative: A price is zero or more. 1 1 {SECOND} {SECOND}" in text
    assert "much" not in text
    assert "3 delivered rows of orders (25.0 % of 12) could not be taken" in page.section("findings")


def test_rows_are_accounted_for_from_delivery_to_fact(shop: Shop, tmp_path: Path) -> None:
    text = of_shop(shop, tmp_path)[0].section("accounting")
    assert "12 delivered = 7 staged + 3 quarantined + 2 duplicate" in text
    assert "7 staged = 6 sales + 1 returns + 0 tombstones + 0 superseded" in text
    # 6 sales of 2 × 10.00, one of them twice as a copy that was dropped; a return of 1 × 10.00.
    assert "total 12 7 3 2 6 1 0 0 11 110.00 yes" in text
    assert f"{FIRST} 5 3 0 2 2 1 0 0 3 30.00 yes" in text
    assert "3 delivered = 3 staged + 0 quarantined + 0 duplicate; 3 staged = 3 versions" in text
    assert "no" not in re.findall(r"\b(?:yes|no)\b", text)


def test_silent_days_are_told(shop: Shop, tmp_path: Path) -> None:
    page, made = of_shop(shop, tmp_path)
    assert made.missing_days == 1
    assert "Nothing was delivered of orders on 1 of 4 days: 1 day (2024-01-07)" in page.section("findings")
    assert "nothing came of orders on 1 day: 1 day (2024-01-07)" in page.section("completeness")
    assert f"stg_orders 4 1 {FIRST} {LAST}" in page.section("completeness")


def test_copies_and_members_without_a_delivery_are_told(shop: Shop, tmp_path: Path) -> None:
    shop.deliver("orders", line("o1", "ghost", day="2024-01-09"), day="2024-01-09")
    assert shop.run(first="2024-01-09").success
    text = of_shop(shop, tmp_path)[0].section("findings")
    assert "2 rows of orders (15.4 % of 13) repeat an earlier row" in text
    assert "1 product that facts name is described by no delivery" in text


def test_what_is_staged_and_not_published_is_told_first(shop: Shop, tmp_path: Path) -> None:
    shop.deliver("orders", line("o20", day="2024-01-09"), day="2024-01-09")
    shop.deliver("orders", line("o21", day="2024-01-10"), day="2024-01-10")
    assert shop.run("raw_orders,stg_orders", first="2024-01-09").success
    page, _ = of_shop(shop, tmp_path)
    items = re.findall(r"<li class=\"(\w+)\">(.*?)</li>", page.html)
    told = [re.sub("<[^>]*>", "", sentence) for severity, sentence in items if severity == "critical"]
    assert {sentence.split(" (")[0] for sentence in told[:2]} == {"1 day of orders"}
    assert any("2024-01-09) is staged, but not published" in sentence for sentence in told[:2])
    assert any("2024-01-10) is landed, but not taken into raw" in sentence for sentence in told[:2])
    assert "1 day staged, not published, 2024-01-09" in page.section("completeness")


def test_rules_are_shown_over_the_last_partitions(warehouse_url: str, lake: Lake, tmp_path: Path) -> None:
    days = [(date(2024, 1, 1) + timedelta(days=number)).isoformat() for number in range(40)]
    good, bad = {"passed": True, "rows_judged": 200}, {"rows_judged": 200, "value": 0.25, "rows_failed": 50}
    records = [
        check("sometimes", day, severity="critical", **(bad if number % 10 == 5 else good))
        for number, day in enumerate(days)
    ]
    records += [check("long_ago", day, passed=day != days[0]) for day in days]
    records += [check("audit", None, severity="critical", rows_judged=9, rows_failed=2, note="Two overlap.")]
    # Mended since: the newest result of a partition counts.
    records += [check("sometimes", days[25], passed=True, severity="critical", rows_judged=200)]
    remember(warehouse_url, "r", records)
    page, made = report(warehouse_url, lake, tmp_path)
    assert (made.failed_critical, made.failed_warnings, made.rules) == (3, 0, 3)
    failed = [title for title in page.titles if "50 of 200 rows (25.0 %) fail" in title]
    assert [title[:10] for title in failed] == [days[15], days[35]]
    assert sum("sometimes (critical): passed, 200 rows judged" in title for title in page.titles) == 28
    text = page.section("rules")
    assert f"30 partitions, {days[10]} to {days[-1]}" in text
    assert "stg_orders: 1 rule never failed" in text
    assert "audit critical 2 9 Two overlap." in text
    # 3 of the 40 partitions have failed: of 8,000 rows 150.
    told = page.section("findings")
    assert "150 of 8,000 rows (1.9 %) break this, on 3 of 40 partitions, from 2024-01-06 to 2024-02-05" in told
    assert told.index("audit") < told.index("sometimes") < told.index("long_ago")


def test_a_check_of_no_single_partition_tells_what_it_found(warehouse_url: str, lake: Lake, tmp_path: Path) -> None:
    late = {"asset": "raw_orders", "rows_judged": 9, "rows_failed": 9}
    remember(warehouse_url, "r", [check("yesterday_is_delivered", None, note="Nothing since Monday.", **late)])
    text = report(warehouse_url, lake, tmp_path)[0].section("findings")
    asks = described()["raw_orders", YESTERDAY]
    assert f"raw_orders: “{asks}” – this does not hold" in text
    assert "Nothing since Monday." in text
    assert "9 of 9" not in text


def test_a_figure_that_drifted_is_drawn_with_the_days_on_which_it_did(
    warehouse_url: str, lake: Lake, tmp_path: Path
) -> None:
    days = [date(2024, 1, 1) + timedelta(days=number) for number in range(20)]
    usual = Numbers(1, 9, 5, 1, tuple(float(number) for number in range(41)))
    price = ColumnProfile(0.0, 5, usual)
    kept = {day: ("", Profile(100 + day.day, 0.0, {"unit_price": price})) for day in days}
    kept[days[-1]] = ("", Profile(7, 0.0, {"unit_price": price}))
    with connected(warehouse_url) as connection:
        keep_profiles(connection, "stg_orders", "r", kept)
    note = (
        "rows: 7; 60 to 200 is normal (by 19 earlier partitions). median of unit_price: 2.5; 3 to 4 is normal (by 19)."
    )
    # Of the first partitions none is judged; of one an empty delivery is.
    judged = [check("drift_row_count", day.isoformat(), passed=True, rows_judged=day.day // 14) for day in days[:-1]]
    judged += [check("drift_mean", day.isoformat(), passed=True, rows_judged=100) for day in days[16:]]
    remember(warehouse_url, "r", [*judged, check("drift_row_count", days[-1].isoformat(), note=note)])
    page, made = report(warehouse_url, lake, tmp_path)
    assert made.failed_warnings == 1
    text = page.section("drift")
    assert "stg_orders rows, 1 unusual partition" in text
    assert "stg_orders median of unit_price, 1 unusual partition" in text
    assert "2024-01-20: rows: 7; 60 to 200 is normal" in page.titles
    # The figure of a usual day: as many dots as days, each with its own.
    assert [title for title in page.titles if title.startswith("2024-01-03: ")] == ["2024-01-03: 103", "2024-01-03: 20"]
    assert "stg_orders was unlike the days before it on 1 of 7 partitions, last on 2024-01-20" in page.section(
        "findings"
    )


def test_what_a_drift_rule_says_of_no_figure_is_not_lost(warehouse_url: str, lake: Lake, tmp_path: Path) -> None:
    day = date(2024, 1, 20)
    with connected(warehouse_url) as connection:
        keep_profiles(connection, "stg_orders", "r", {day: ("", Profile(7))})
    notes = {
        "drift_new": "Nobody knows this.",
        "drift_regulars": "missing ones of the 50 regular ids: 9 %; 0 % is normal.",
    }
    remember(warehouse_url, "r", [check(rule, day.isoformat(), note=note) for rule, note in notes.items()])
    text = report(warehouse_url, lake, tmp_path)[0].section("drift")
    assert "2 more figures" in text
    assert "stg_orders drift new 1 2024-01-20 Nobody knows this." in text
    assert "stg_orders missing ones of the 50 regular ids 1 2024-01-20" in text


def test_a_measure_is_told_with_its_value_and_what_is_right(warehouse_url: str, lake: Lake, tmp_path: Path) -> None:
    few = check("row_count", value=3.0, threshold="at least 10", rows_judged=3)
    remember(warehouse_url, "r", [few, check("unjudged", note="Not found: column x.")])
    page, _ = report(warehouse_url, lake, tmp_path)
    told = [" ".join(re.sub("<[^>]*>", "", sentence).split()) for sentence in re.findall("<li.*?</li>", page.html)]
    assert any(
        "does not hold, on 2024-01-08 (row_count, warning): 3, where at least 10 is right." in one for one in told
    )
    assert any("(unjudged, warning): Not found: column x." in one for one in told)
    assert "2024-01-08 · row_count (warning): 3, where at least 10 is right" in page.titles


def test_a_number_far_beyond_the_usual_is_told(warehouse_url: str, lake: Lake, tmp_path: Path) -> None:
    def of(high: float) -> tuple[str, Profile]:
        places = (*(float(number) for number in range(40)), high)
        return "", Profile(500, 0.0, {"quantity": ColumnProfile(0.0, 40, Numbers(0, high, 5, 1, places))})

    days = [date(2024, 1, 1) + timedelta(days=number) for number in range(9)]
    with connected(warehouse_url) as connection:
        keep_profiles(connection, "stg_orders", "r", {day: of(80_995 if day.day == 4 else 60) for day in days})
    remember(warehouse_url, "r", [check("kept", passed=True)])
    text = report(warehouse_url, lake, tmp_path)[0].section("findings")
    assert "stg_orders: quantity reaches 80,995 on 2024-01-04, 2,077 times what is large on a usual day (39)" in text


def test_the_newest_partition_is_described_column_by_column(shop: Shop, tmp_path: Path) -> None:
    with connected(shop.warehouse) as connection:
        days = shop.lake.days("stg_orders")
        found = profile(shop.lake.scan("stg_orders", days).rename({"dt": "_partition"}), STAGED["orders"])
        keep_profiles(connection, "stg_orders", "r", {day: ("", one) for day, one in found.items()})
    text = of_shop(shop, tmp_path)[0].section("profiles")
    assert f"Partition {LAST}: 3 rows" in text
    assert "quantity 0.0 % 1 2 2 2 2" in text
    assert "order_id 0.0 % 3" in text


def test_a_rejected_delivery_is_told_with_its_reason_and_its_mend(shop: Shop, tmp_path: Path) -> None:
    shop.deliver("orders", *(line(f"r{number}", quantity="two", day="2024-01-09") for number in range(20)),
                 day="2024-01-09")  # fmt: skip
    shop.deliver("products", {"product_name": "x"}, day="2024-01-09")
    assert not shop.run(first="2024-01-09").success
    told = of_shop(shop, tmp_path)[0].section("findings")
    assert "“Few enough rows are quarantined" in told
    assert (
        "this does not hold, on 2024-01-09 alone ( delivery_is_accepted , critical): 20 of 20 rows cannot be taken, "
        "most often since 'quantity cannot be read as integer' (in 2024-01-09.csv); the delivery is rejected and what "
        "stood before stands: mend the file and run the day again, or raise reject_share in sources.yaml."
    ) in told
    assert "this does not hold, on 2024-01-09 alone ( delivery_can_be_read , critical): " in told
    assert "lacks the required column 'product_id'" in told
    assert "of 1 row" not in told


def test_a_rejection_of_which_no_reason_is_known_counts_deliveries(
    warehouse_url: str, lake: Lake, tmp_path: Path
) -> None:
    remember(
        warehouse_url,
        "r",
        [check("delivery_is_accepted", severity="critical", rows_judged=1, rows_failed=1)],
    )
    assert "1 of 1 delivery (100.0 %) break" in report(warehouse_url, lake, tmp_path)[0].section("findings")


def test_every_check_is_told_by_what_it_asks_for() -> None:
    found = described()
    for contract in (*STAGED.values(), *published_contracts()):
        for rule in (*contract.rules, *contract.measures, *contract.queries):
            assert found[contract.table, rule.name] == rule.description
    for table, audits in {"dim_product": DIMENSION_AUDITS, "fact_returns": FACT_AUDITS}.items():
        assert {name: found[table, name] for name in audits} == {name: f"{asks}." for name, asks in audits.items()}
    drift = {name: rule.description for name, rule in RULES.items()}
    assert {name: found["stg_orders", name] for name in (*drift, *GENERAL_CHECKS)} == drift | GENERAL_CHECKS
    of_raw = (READ, AGREES, DELIVERED, KNOWN, BALANCE, YESTERDAY, GAPS, TRADING)
    others = [found[table, name] for table, names in {"raw_orders": of_raw, "stg_orders": (ACCEPTED, BALANCE, WAITING)}
              .items() for name in names]  # fmt: skip
    others += [found[table, BALANCE] for table in ("dim_customer", "fact_sales", "mart_daily_sales")]
    assert all(asks.endswith(".") and "To mend" not in asks for asks in others), others


def test_what_is_between_backticks_is_code(warehouse_url: str, lake: Lake, tmp_path: Path) -> None:
    note = "`data-platform rebuild` <mends> it"
    remember(warehouse_url, "r", [check("latest", None, note=note), check("dated", note=note, rows_judged=0)])
    page, _ = report(warehouse_url, lake, tmp_path)
    marked = "<code>data-platform rebuild</code> &lt;mends&gt; it"
    for section in ("findings", "rules"):
        found = re.search(rf'<section id="{section}">.*?</section>', page.html, re.DOTALL)
        assert found
        assert marked in found[0]


@pytest.mark.parametrize(("failed", "judged"), [(-1, 1), (5, -1), (-5, -1), (9, 1), (-1, 0)])
def test_counts_that_cannot_be_do_not_break_the_page(
    warehouse_url: str, lake: Lake, tmp_path: Path, failed: int, judged: int
) -> None:
    odd = {"rows_failed": failed, "rows_judged": judged, "value": float(failed)}
    remember(warehouse_url, "r", [check("odd", **odd), check("latest", None, **odd)])
    page, made = report(warehouse_url, lake, tmp_path)
    assert made.failed_warnings == 2
    assert any("odd (warning)" in title for title in page.titles)


def tell(shop: Shop, day: int, **segments: str) -> None:
    told = [customer(name, segment=segment) for name, segment in segments.items()]
    shop.deliver("customers", *told, day=f"2024-01-{day:02}")


@pytest.fixture
def empty_shop(warehouse_url: str, tmp_path: Path) -> Iterator[Shop]:
    with open_shop(tmp_path / "home", warehouse_url) as made:
        yield made


def test_a_source_that_tells_changes_alone_does_not_flicker(empty_shop: Shop, tmp_path: Path) -> None:
    tell(empty_shop, 5, **{f"c{number}": "a" for number in range(10)})
    tell(empty_shop, 6, **{f"c{number}": "b" for number in range(10)})
    # One of eleven is told again by mistake.
    tell(empty_shop, 7, **{f"c{number}": "c" for number in range(9)}, c9="b")
    assert empty_shop.run(first="2024-01-05", last="2024-01-07").success
    assert "change something" not in of_shop(empty_shop, tmp_path)[0].section("findings")


def test_a_source_of_changes_that_repeats_what_is_known_flickers_where_much_of_it_changes(
    empty_shop: Shop, tmp_path: Path
) -> None:
    tell(empty_shop, 5, **{f"c{number}": "a" for number in range(10)})
    tell(empty_shop, 6, **{f"c{number}": "b" if number < 4 else "a" for number in range(10)})
    assert empty_shop.run(first="2024-01-05", last="2024-01-06").success
    told = of_shop(empty_shop, tmp_path)[0].section("findings")
    assert "4 of 10 tellings of customers that were known already (40.0 %) change something" in told


def test_a_full_source_flickers_though_it_repeats_nothing(empty_shop: Shop, tmp_path: Path) -> None:
    empty_shop.home.mkdir(exist_ok=True)
    empty_shop.home.joinpath("sources.yaml").write_text("customers:\n  mode: full\n")
    for day, segment in ((5, "a"), (6, "b")):
        tell(empty_shop, day, **{f"c{number}": segment for number in range(10)})
    assert empty_shop.run(first="2024-01-05", last="2024-01-06").success
    told = of_shop(empty_shop, tmp_path)[0].section("findings")
    assert "10 of 10 tellings of customers that were known already (100.0 %) change something" in told


def test_a_folder_that_cannot_be_written_is_named(warehouse_url: str, lake: Lake, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PlatformError, match="quality report cannot be written"):
        write_report(warehouse_url, lake, str(tmp_path), tmp_path / "file" / "quality.html",
                     start_date=date(2024, 1, 1), timezone="UTC")  # fmt: skip
