"""The demo shop: the same for the same seed, as large as asked for, and counted exactly."""

from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest

from data_platform.datasets.demo_shop import Rates, ShopSize, ShopSummary, UnusableShop, generate
from data_platform.datasets.landing_files import ENTITIES, LandingOccupied
from data_platform.errors import SourceUnavailable

START = date(2024, 2, 1)
SIZE = ShopSize(customers=3_000, products=800, orders_per_day=400, days=45)
SMALL = ShopSize(customers=40, products=20, orders_per_day=12, days=8)
EVERYTHING_OFTEN = Rates(
    price_changes=0.05, moves=0.05, new_products=0.02, new_customers=0.02, late=0.2, cancellations=0.1, guests=0.1,
    corrections=0.1, returns=0.1, duplicates=0.05, dirt=0.03,
)  # fmt: skip
NOTHING_HAPPENS = Rates(
    price_changes=0, moves=0, new_products=0, new_customers=0, late=0, cancellations=0, guests=0, corrections=0,
    returns=0, duplicates=0, dirt=0,
)  # fmt: skip
KEY = ["order_id", "line_number"]


def contents(landing: Path) -> dict[str, bytes]:
    return {str(path.relative_to(landing)): path.read_bytes() for path in sorted(landing.rglob("*")) if path.is_file()}


def delivered(landing: Path, entity: str) -> pl.DataFrame:
    """All deliveries of an entity in Parquet, with the day of each row's delivery."""
    return pl.concat(
        pl.read_parquet(path).with_columns(day=pl.lit(date.fromisoformat(path.stem)))
        for path in sorted((landing / entity).iterdir())
    )


def quarantined(entity: str) -> pl.Expr:
    """Rows of a typed delivery that the law of the warehouse quarantines."""
    tomorrow = pl.col("day").dt.offset_by("1d")
    key = {"orders": "order_id", "products": "product_id", "customers": "customer_id"}[entity]
    broken = pl.col(key).is_null() | (pl.col(key).str.len_chars() > 200) | (pl.col("updated_at").dt.date() > tomorrow)
    if entity == "orders":
        broken |= (
            pl.any_horizontal(pl.col("line_number", "product_id", "quantity").is_null())
            | (pl.col("unit_price") < 0)
            | (pl.col("order_ts").dt.date() > tomorrow)
        )
    return broken


@pytest.fixture(scope="module", params=[Rates(), EVERYTHING_OFTEN], ids=["usual", "often"])
def shop(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Rates, ShopSummary]:
    landing = tmp_path_factory.mktemp("landing")
    return landing, request.param, generate(landing, start=START, size=SIZE, rates=request.param)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    summaries = [
        generate(tmp_path / name, start=START, size=SMALL, rates=EVERYTHING_OFTEN, seed=seed)
        for name, seed in (("a", 3), ("b", 3), ("c", 4))
    ]
    assert summaries[0] == summaries[1] != summaries[2]
    assert contents(tmp_path / "a") == contents(tmp_path / "b") != contents(tmp_path / "c")


def test_csv_holds_the_same_values_as_parquet_but_for_the_text_in_dirty_rows(tmp_path: Path) -> None:
    for rates in (replace(EVERYTHING_OFTEN, dirt=0), EVERYTHING_OFTEN):
        landings = {form: tmp_path / f"{form}-{rates.dirt}" for form in ("parquet", "csv")}
        summaries = [
            generate(landings["parquet"], start=START, size=SMALL, rates=rates),
            generate(landings["csv"], start=START, size=SMALL, rates=rates, file_format="csv"),
        ]
        assert summaries[0] == summaries[1]
        unequal = 0
        for entity in ENTITIES:
            for path in sorted((landings["csv"] / entity).iterdir()):
                text = pl.read_csv(path, infer_schema=False)
                typed = pl.read_parquet(landings["parquet"] / entity / f"{path.stem}.parquet")
                written = pl.read_csv(typed.write_csv(datetime_format="%Y-%m-%d %H:%M:%S").encode(), infer_schema=False)
                assert text.columns == written.columns
                assert text.height == written.height
                unequal += sum(left != right for left, right in zip(text.rows(), written.rows(), strict=True))
        assert unequal <= summaries[0].dirty_rows
        assert (unequal > 0) == (rates.dirt > 0)


def test_every_day_has_a_delivery_of_each_entity_with_its_types(shop: tuple[Path, Rates, ShopSummary]) -> None:
    landing, _, summary = shop
    days = [START + timedelta(days=day) for day in range(SIZE.days)]
    assert (summary.first_day, summary.last_day) == (days[0], days[-1])
    money, moment = pl.Decimal(18, 4), pl.Datetime("us")
    types = {
        "orders": {"line_number": pl.Int32, "quantity": pl.Int64, "unit_price": money, "discount_amount": money,
                   "order_ts": moment, "updated_at": moment},
        "products": {"unit_price": money, "cost": money, "updated_at": moment},
        "customers": {"created_date": pl.Date, "updated_at": moment},
    }  # fmt: skip
    for entity in ENTITIES:
        paths = sorted((landing / entity).iterdir())
        assert [path.name for path in paths] == [f"{day}.parquet" for day in days]
        for path in paths:
            schema = pl.read_parquet_schema(path)
            assert {name: kind for name, kind in schema.items() if kind != pl.String} == types[entity]


def test_what_was_delivered_is_what_the_summary_counts(shop: tuple[Path, Rates, ShopSummary]) -> None:
    landing, _, summary = shop
    orders = delivered(landing, "orders")
    assert orders.height == summary.lines_delivered
    rows = orders.unique(maintain_order=True)
    assert orders.height - rows.height == summary.duplicates
    assert rows.filter(quarantined("orders")).height == summary.dirty_lines
    staged = rows.filter(~quarantined("orders"))
    assert staged.filter(status="corrected").height == summary.corrections
    assert staged.filter(status="cancelled").height == summary.cancelled_lines
    assert staged.filter(status="cancelled")["order_id"].n_unique() == summary.cancellations
    completed = rows.filter(status="completed")
    assert completed.height == summary.lines_sold
    late = completed.filter(~quarantined("orders"), pl.col("order_ts").dt.date() < pl.col("day"))
    assert summary.late_lines - summary.dirty_lines <= late.height <= summary.late_lines
    assert staged.height == (
        summary.fact_sales_rows + summary.fact_returns_rows + summary.cancelled_lines + summary.superseded_lines
    )

    for entity, height, dirty in (
        ("products", summary.product_rows, summary.dirty_product_rows),
        ("customers", summary.customer_rows, summary.dirty_customer_rows),
    ):
        frame = delivered(landing, entity)
        assert frame.height == frame.unique().height == height
        assert frame.filter(quarantined(entity)).height == dirty


def test_the_last_tellings_give_the_facts_that_the_summary_promises(shop: tuple[Path, Rates, ShopSummary]) -> None:
    landing, _, summary = shop
    staged = delivered(landing, "orders").unique().filter(~quarantined("orders"))
    last = staged.sort("updated_at", "day").unique(KEY, keep="last").filter(pl.col("status") != "cancelled")
    last = last.with_columns(amount=pl.col("quantity") * pl.col("unit_price") - pl.col("discount_amount"))
    sales, returns = last.filter(pl.col("quantity") > 0), last.filter(pl.col("quantity") < 0)
    assert (sales.height, sales["quantity"].sum(), sales["amount"].sum()) == (
        summary.fact_sales_rows, summary.sales_quantity, summary.sales_amount,
    )  # fmt: skip
    assert (returns.height, returns["quantity"].sum(), returns["amount"].sum()) == (
        summary.fact_returns_rows, summary.returns_quantity, summary.returns_amount,
    )  # fmt: skip
    # A discount never turns the sign of its line.
    assert last.filter(pl.col("discount_amount") * pl.col("quantity").sign() < 0).is_empty()
    assert last.filter(pl.col("amount") * pl.col("quantity").sign() < 0).is_empty()


def test_each_change_of_a_member_makes_a_version(shop: tuple[Path, Rates, ShopSummary]) -> None:
    landing, _, summary = shop
    for entity, key, members, versions in (
        ("products", "product_id", summary.products, summary.product_versions),
        ("customers", "customer_id", summary.customers, summary.customer_versions),
    ):
        frame = delivered(landing, entity).filter(~quarantined(entity)).sort(key, "day")
        assert frame[key].n_unique() == members
        assert frame.select(key, "day").is_unique().all()
        tracked = [name for name in frame.columns if name not in ("updated_at", "day")]
        assert (
            frame.select((pl.struct(tracked) != pl.struct(tracked).shift(1)).fill_null(True).sum()).item() == versions
        )


def test_orders_take_the_price_of_their_day_and_members_that_were_delivered(
    shop: tuple[Path, Rates, ShopSummary],
) -> None:
    landing, _, _ = shop
    sold = delivered(landing, "orders").filter(~quarantined("orders"), status="completed").unique()
    sold = sold.with_columns(order_day=pl.col("order_ts").dt.date())
    products = (
        delivered(landing, "products").filter(~quarantined("products")).select("product_id", "day", price="unit_price")
    )
    priced = sold.sort("order_day").join_asof(
        products.sort("day"), left_on="order_day", right_on="day", by="product_id", check_sortedness=False
    )
    assert priced.filter(pl.col("unit_price").ne_missing(pl.col("price"))).is_empty()
    joined = delivered(landing, "customers").group_by("customer_id").agg(since=pl.col("day").min())
    known = sold.drop_nulls("customer_id").join(joined, on="customer_id", how="left")
    assert known.filter((pl.col("since") > pl.col("order_day")).fill_null(True)).is_empty()


def test_no_delivery_is_dirty_enough_to_be_rejected(shop: tuple[Path, Rates, ShopSummary]) -> None:
    landing, _, _ = shop
    for entity in ENTITIES:
        days = delivered(landing, entity).group_by("day").agg(rows=pl.len(), dirty=quarantined(entity).sum())
        assert days.filter(pl.col("dirty") >= 10, pl.col("dirty") > 0.045 * pl.col("rows")).is_empty()


def test_each_kind_of_event_happens_at_its_rate(shop: tuple[Path, Rates, ShopSummary]) -> None:
    _, rates, summary = shop
    standing = summary.lines_sold - summary.cancelled_lines
    member_days = {"products": SIZE.products * (SIZE.days - 1), "customers": SIZE.customers * (SIZE.days - 1)}
    for happened, of, rate, at_least in (
        (summary.late_orders, summary.orders, rates.late, 0.8),
        (summary.cancellations, summary.orders, rates.cancellations, 0.8),
        (summary.corrections, standing, rates.corrections, 0.8),
        # Those that would come back after the last day are not returned: a quarter of 45 days.
        (summary.returns, standing, rates.returns, 0.6),
        (summary.dirty_lines, standing, rates.dirt, 0.8),
        (summary.duplicates, summary.lines_delivered, rates.duplicates, 0.8),
        (summary.price_changes, member_days["products"], rates.price_changes, 0.8),
        (summary.moves, member_days["customers"], rates.moves, 0.7),
        (summary.products - SIZE.products, member_days["products"], rates.new_products, 0.8),
        (summary.customers - SIZE.customers, member_days["customers"], rates.new_customers, 0.8),
    ):
        assert at_least * of * rate <= happened <= max(1.5 * of * rate, of * rate + 5)


def test_a_shop_in_which_nothing_happens_delivers_its_orders_and_no_more(tmp_path: Path) -> None:
    size = ShopSize(customers=100, products=50, orders_per_day=200, days=20, lines_per_order=2.5)
    summary = generate(tmp_path, start=START, size=size, rates=NOTHING_HAPPENS)
    assert summary.orders == 200 * 20
    assert summary.lines_delivered == summary.lines_sold == summary.fact_sales_rows
    assert summary.lines_sold == pytest.approx(size.expected_sale_lines, rel=0.05)
    assert (summary.product_rows, summary.customer_rows, summary.dirty_rows) == (50, 100, 0)
    second = pl.read_parquet(tmp_path / "products" / f"{START + timedelta(days=1)}.parquet")
    assert second.is_empty()
    assert "product_id" in second.columns


def test_the_smallest_shop_works_also_on_days_without_an_order(tmp_path: Path) -> None:
    size = ShopSize(customers=1, products=1, orders_per_day=1, days=12, lines_per_order=1)
    days: list[date] = []
    summary = generate(
        tmp_path, start=START, size=size, rates=EVERYTHING_OFTEN, file_format="csv", progress=days.append
    )
    assert (summary.orders, summary.lines_sold, len(days)) == (12, 12, 12)
    assert all(path.read_text().count(",") for path in tmp_path.rglob("*.csv"))


def test_nonsense_is_refused_in_a_sentence(tmp_path: Path) -> None:
    for make, sentence in (
        (lambda: ShopSize(days=0), "days is 0"),
        (lambda: ShopSize(lines_per_order=0.5), "lines_per_order is 0.5"),
        (lambda: Rates(late=1.2), "The rate of late is 1.2"),
        (lambda: Rates(dirt=0.2), "above 0.03 deliveries would be rejected"),
        (lambda: Rates(corrections=0.6, returns=0.6), "exceed 1 together"),
        (lambda: generate(tmp_path, start=date(2190, 1, 1), size=SMALL), "beyond 2150"),
        (lambda: generate(tmp_path, start=START, size=SMALL, seed=-1), "The seed is -1"),
    ):
        with pytest.raises(UnusableShop, match=sentence):
            make()


def test_another_landing_form_of_the_same_days_is_refused(tmp_path: Path) -> None:
    generate(tmp_path, start=START, size=SMALL)
    before = contents(tmp_path)
    with pytest.raises(LandingOccupied, match=r"in another form than \.csv"):
        generate(tmp_path, start=START, size=SMALL, file_format="csv")
    assert contents(tmp_path) == before


def test_a_delivery_put_beside_those_of_the_demo_is_not_replaced(tmp_path: Path) -> None:
    generate(tmp_path, start=START, size=SMALL)
    theirs = tmp_path / "orders" / f"{START + timedelta(days=SMALL.days)}.parquet"
    theirs.write_bytes(b"theirs")
    with pytest.raises(LandingOccupied, match="a delivery of another origin"):
        generate(tmp_path, start=START, size=replace(SMALL, days=SMALL.days + 1))
    assert theirs.read_bytes() == b"theirs"


def test_a_landing_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SourceUnavailable, match="landing cannot be written"):
        generate(tmp_path / "file" / "landing", start=START, size=SMALL)
