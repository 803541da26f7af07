"""The importer of Online Retail: its rules on a few rows, and the whole year against expected.json."""

import json
import tarfile
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from data_platform.datasets.landing_files import LandingOccupied
from data_platform.datasets.online_retail import ImportRefused, ImportSummary, import_online_retail

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "online_retail"
HEADER = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n"
A_LINE = "1,85123a,LAMP,6,2010-12-01 08:26:00,2.55,17850.0,France\n"


def a_day(folder: Path, *lines: str, header: str = HEADER, day: str = "2010-12-01") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / f"{day}.csv").write_text(header + "".join(lines), encoding="utf-8")
    return folder


def imported(landing: Path, entity: str, day: str = "2010-12-01") -> list[dict[str, Any]]:
    return pl.read_csv(landing / entity / f"{day}.csv", infer_schema=False).to_dicts()


def test_a_source_row_becomes_an_order_row_under_canonical_names(tmp_path: Path) -> None:
    source = a_day(
        tmp_path / "by-day", '536365, 85123a ,"HEART, ""WHITE"" ",6,2010-12-01 08:26:00,2.55,17850.0,France\n'
    )
    import_online_retail(source, tmp_path / "landing")
    assert imported(tmp_path / "landing", "orders") == [
        {
            "order_id": "536365",
            "product_id": "85123A",
            "customer_id": "17850",
            "order_ts": "2010-12-01 08:26:00",
            "quantity": "6",
            "unit_price": "2.55",
            "description": 'HEART, "WHITE"',
            "country": "France",
        }
    ]


def test_every_row_reaches_the_orders_whatever_is_wrong_with_it(tmp_path: Path) -> None:
    bad = ["1,,,x,never,1e400,,\n", "1,a,,0,2010-12-01 08:00:00,-1,,UK\n", ",,,,,,,\n"]
    summary = import_online_retail(a_day(tmp_path / "by-day", A_LINE, A_LINE, *bad), tmp_path / "landing")
    assert (summary.order_rows, summary.product_rows, summary.customer_rows) == (5, 1, 1)


def test_a_product_takes_the_most_frequent_name_and_price_and_ties_as_the_readme_says(tmp_path: Path) -> None:
    lines = [
        "1,a,ZINC,1,2010-12-01 08:00:00,2.50,,UK\n",
        "2,A,ZINC ,1,2010-12-01 08:00:00,10,,UK\n",
        "3,a,ALOE,1,2010-12-01 08:00:00,2.5,,UK\n",
        "4,a,ALOE,1,2010-12-01 08:00:00,10.0,,UK\n",
        # None of these counts: no description, no price, a return, a copy of a row above.
        "5,a,,1,2010-12-01 08:00:00,99,,UK\n",
        "6,a,ZINC,1,2010-12-01 08:00:00,0,,UK\n",
        "7,a,ZINC,-1,2010-12-01 08:00:00,2.5,,UK\n",
        "1,A,ZINC,1,2010-12-01 08:00:00,2.50,,UK \n",
    ]
    import_online_retail(a_day(tmp_path / "by-day", *lines), tmp_path / "landing")
    assert imported(tmp_path / "landing", "products") == [
        {"product_id": "A", "product_name": "ALOE", "unit_price": "10"}
    ]


def test_a_customer_takes_the_most_frequent_country_and_the_smallest_of_a_tie(tmp_path: Path) -> None:
    lines = [
        f"{number},a,LAMP,1,2010-12-01 08:00:00,2,{customer},{country}\n"
        for number, (customer, country) in enumerate(
            [("7.0", "Spain"), ("7.0", "Italy"), ("7.0", "Spain"), ("8", "Spain"), ("8", "Italy"), ("", "Malta")]
        )
    ]
    import_online_retail(a_day(tmp_path / "by-day", *lines), tmp_path / "landing")
    assert imported(tmp_path / "landing", "customers") == [
        {"customer_id": "7", "country": "Spain"},
        {"customer_id": "8", "country": "Italy"},
    ]


def test_days_without_sales_deliver_a_header_and_days_without_a_file_deliver_nothing(tmp_path: Path) -> None:
    a_day(tmp_path / "by-day", A_LINE)
    source = a_day(tmp_path / "by-day", "C1,a,LAMP,-6,2010-12-04 08:00:00,2.55,7.0,UK\n", day="2010-12-04")
    days: list[date] = []
    summary = import_online_retail(source, tmp_path / "landing", progress=days.append)
    assert days == [date(2010, 12, 1), date(2010, 12, 4)]
    assert (summary.first_day, summary.last_day, summary.days, summary.deliveries) == (days[0], days[1], 2, 6)
    assert summary.settings_needed == ("DATA_PLATFORM_START_DATE=2010-12-01",)
    assert (tmp_path / "landing/products/2010-12-04.csv").read_text() == "product_id,product_name,unit_price\n"
    assert [path.name for path in sorted((tmp_path / "landing/orders").iterdir())] == [
        "2010-12-01.csv",
        "2010-12-04.csv",
    ]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "lacks the column InvoiceNo"),
        (HEADER.replace(",Quantity", "").encode(), "lacks the column Quantity"),
        (HEADER.replace(",", ";").encode(), "separated by commas"),
        (HEADER.encode() + b"1,a,CAF\xc9,1,2010-12-02 08:00:00,1,,UK\n", "is not UTF-8 in line 2"),
        (HEADER.encode() + b"1,a,x,1,2010-12-02 08:00:00,1,,UK,more\n", "is not a readable CSV file"),
    ],
)
def test_a_broken_file_is_named_and_nothing_is_written(tmp_path: Path, content: bytes, sentence: str) -> None:
    source = a_day(tmp_path / "by-day", A_LINE)
    (source / "2010-12-02.csv").write_bytes(content)
    with pytest.raises(ImportRefused, match=rf"2010-12-02\.csv .*{sentence}"):
        import_online_retail(source, tmp_path / "landing")
    assert not (tmp_path / "landing").exists()


def test_a_source_that_is_no_folder_of_daily_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    a_day(tmp_path / "misnamed", A_LINE, day="2010-13-01")
    for name, sentence in {
        "absent": "does not exist",
        "file": "unpack the archive",
        "empty": "holds no daily file",
        "misnamed": "not named after a day",
    }.items():
        with pytest.raises(ImportRefused, match=sentence):
            import_online_retail(tmp_path / name, tmp_path / "landing")


def test_deliveries_of_another_origin_are_never_replaced_and_own_ones_are(tmp_path: Path) -> None:
    source = a_day(tmp_path / "by-day", A_LINE)
    theirs = tmp_path / "theirs" / "orders" / "2010-12-01.jsonl"
    theirs.parent.mkdir(parents=True)
    theirs.touch()
    with pytest.raises(LandingOccupied, match=r"2010-12-01\.jsonl is a delivery of another origin"):
        import_online_retail(source, tmp_path / "theirs")
    assert [path.name for path in theirs.parent.iterdir()] == [theirs.name]
    first = import_online_retail(source, tmp_path / "landing")
    assert import_online_retail(source, tmp_path / "landing") == first


@dataclass(frozen=True)
class Year:
    summary: ImportSummary
    orders: pl.DataFrame
    products: pl.DataFrame
    customers: pl.DataFrame


@pytest.fixture(scope="module")
def expected() -> dict[str, Any]:
    if not (DATA / "by_day.tar.xz").is_file():
        pytest.skip(f"the Online Retail files are not at {DATA}")
    result: dict[str, Any] = json.loads((DATA / "expected.json").read_text())
    return result


@pytest.fixture(scope="module")
def year(expected: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Year:
    folder = tmp_path_factory.mktemp("online_retail")
    with tarfile.open(DATA / "by_day.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    summary = import_online_retail(folder, folder / "landing")

    def entity(name: str) -> pl.DataFrame:
        return pl.read_csv(folder / "landing" / name / "*.csv", infer_schema=False, include_file_paths="day")

    return Year(summary, entity("orders"), entity("products"), entity("customers"))


def test_the_year_is_delivered_whole(year: Year, expected: dict[str, Any]) -> None:
    assert year.summary.days == expected["deliveries"]
    assert year.summary.order_rows == year.orders.height == expected["rows_read"]
    assert year.summary.product_rows == year.products.height == expected["products"]["observations"]
    assert year.summary.customer_rows == year.customers.height == expected["customers"]["observations"]
    assert (year.summary.first_day, year.summary.last_day) == (date(2010, 12, 1), date(2011, 12, 9))


def test_the_rows_of_the_year_fall_into_the_expected_classes(year: Year, expected: dict[str, Any]) -> None:
    numbers = year.orders.unique().with_columns(
        pl.col("quantity").cast(pl.Int64),
        pl.col("unit_price").cast(pl.Decimal(18, 4)),
        order_day=pl.col("order_ts").str.slice(0, 10),
    )
    assert year.orders.height - numbers.height == expected["by_class"]["duplicate"]
    quarantined = (
        (pl.col("unit_price") < 0)
        | (pl.col("quantity") == 0)
        | pl.col("order_id").is_null()
        | pl.col("product_id").is_null()
    )
    assert numbers.filter(quarantined).height == expected["by_class"]["quarantined"]
    staged = numbers.filter(~quarantined).with_columns(total=pl.col("quantity") * pl.col("unit_price"))
    sales, returns = staged.filter(pl.col("quantity") > 0), staged.filter(pl.col("quantity") < 0)
    assert (
        figures(sales)
        | {
            "lines_without_customer": str(sales["customer_id"].null_count()),
            "customers": str(sales["customer_id"].drop_nulls().n_unique()),
            "products": str(sales["product_id"].n_unique()),
        }
        == expected["sales"]
    )
    assert {key: value for key, value in figures(returns).items() if key != "orders"} == expected["returns"]
    months = [
        {"month": month, **figures(rows)}
        for (month,), rows in sales.sort("order_ts").group_by(pl.col("order_day").str.slice(0, 7), maintain_order=True)
    ]
    assert months == [{key: str(value) for key, value in month.items()} for month in expected["sales_by_month"]]
    assert sales.filter(~pl.col("day").str.contains(pl.col("order_day"), literal=True)).is_empty()


def test_the_members_of_the_year_change_as_expected(year: Year, expected: dict[str, Any]) -> None:
    names, prices = changes(year.products, "product_name"), changes(year.products, "unit_price")
    products = year.products["product_id"].n_unique()
    either = changes(year.products, "product_name", "unit_price")
    assert {
        "observations": year.products.height,
        "products": products,
        "versions": products + either,
        "name_changes": names,
        "price_changes": prices,
    } == expected["products"]
    customers = year.customers["customer_id"].n_unique()
    assert customers == expected["customers"]["customers"]
    assert customers + changes(year.customers, "country") == expected["customers"]["versions"]


def figures(lines: pl.DataFrame) -> dict[str, str]:
    """Control totals of order lines, as the text of expected.json."""
    return {
        "lines": str(lines.height),
        "orders": str(lines["order_id"].n_unique()),
        "quantity": str(lines["quantity"].sum()),
        "total_amount": str(lines["total"].sum()),
    }


def changes(observations: pl.DataFrame, *attributes: str) -> int:
    """How often a member's next observation tells another value of one of `attributes`."""
    key = observations.columns[0]
    ordered = observations.sort(key, "day")
    differs = pl.any_horizontal(pl.col(name).ne_missing(pl.col(name).shift(1)) for name in attributes)
    return int(ordered.select((differs & (pl.col(key) == pl.col(key).shift(1))).sum()).item())
