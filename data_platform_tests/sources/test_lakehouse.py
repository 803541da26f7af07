"""Delta Lake and Iceberg tables as sources: real tables in a folder, as they were when a day ended."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from deltalake import DeltaTable
from pydantic import ValidationError
from pyiceberg.catalog import Catalog, load_catalog

from data_platform.errors import DeliveryRejected, SettingsError, SourceUnavailable
from data_platform.sources.extraction import Extracted, Window, window_of
from data_platform.sources.lakehouse import DeltaSource, IcebergSource, extract_delta, extract_iceberg

PLACE = "customers.delta"
TODAY = datetime.now(UTC).date()
NOON = datetime(2024, 1, 5, 12, tzinfo=UTC)


def customers(*ids: str, at: datetime = NOON) -> pl.DataFrame:
    return pl.DataFrame(
        {"customer_id": list(ids), "changed": [at] * len(ids)}, schema_overrides={"changed": pl.Datetime("us", "UTC")}
    )


def until_now() -> Window:
    """A window that ends just now, after all that was committed."""
    time.sleep(0.01)
    now = datetime.now(UTC)
    time.sleep(0.01)
    return Window(TODAY, now - timedelta(days=1), now)


def ids(into: Path) -> list[str]:
    return sorted(pl.read_parquet(into / "0001.parquet").get_column("customer_id"))


@pytest.fixture
def into(tmp_path: Path) -> Path:
    folder = tmp_path / "into"
    folder.mkdir()
    return folder


# Delta


def delta(url: Path | str, into: Path, asked: Window, **more: Any) -> Extracted:
    config = DeltaSource.model_validate({"url": str(url), **more})
    return extract_delta(config, asked, into, place=PLACE)


def test_a_delta_table_is_delivered_as_it_was_when_the_day_ended(tmp_path: Path, into: Path) -> None:
    table = tmp_path / "table"
    customers("c1").write_delta(str(table))
    then = until_now()
    customers("c2", "c3").write_delta(str(table), mode="append")
    assert delta(table, into, then) == Extracted(1, {"version": 0})
    assert ids(into) == ["c1"]
    assert delta(table, into, until_now()) == Extracted(3, {"version": 1})
    assert ids(into) == ["c1", "c2", "c3"]


def test_before_its_first_version_a_delta_table_has_nothing(tmp_path: Path, into: Path) -> None:
    customers("c1").write_delta(str(tmp_path / "table"))
    assert delta(tmp_path / "table", into, window_of(TODAY - timedelta(days=9), "UTC")) == Extracted()
    assert list(into.iterdir()) == []


def test_a_state_that_the_log_has_forgotten_is_told(tmp_path: Path, into: Path) -> None:
    table = tmp_path / "table"
    customers("c1").write_delta(str(table))
    then = until_now()
    customers("c2").write_delta(str(table), mode="append")
    DeltaTable(str(table)).create_checkpoint()
    (table / "_delta_log" / f"{0:020}.json").unlink()
    with pytest.raises(DeliveryRejected, match=r"customers.delta: the table's log does not reach back to"):
        delta(table, into, then)
    assert delta(table, into, until_now()).figures == {"version": 1}


@pytest.mark.parametrize(("lookback", "wanted"), [("0s", ["b", "c"]), ("1h", ["a", "b", "c"])])
def test_with_a_window_only_rows_that_changed_in_it_are_delivered(
    tmp_path: Path, into: Path, lookback: str, wanted: list[str]
) -> None:
    now = until_now().before
    since = now - timedelta(hours=2)
    moments = {
        "a": since - timedelta(minutes=5),
        "b": since,
        "c": now - timedelta(minutes=1),
        "old": since - timedelta(days=2),
    }
    pl.concat(customers(name, at=moment) for name, moment in moments.items()).write_delta(str(tmp_path / "table"))
    config = {"window": "changed", "lookback": lookback}
    span = DeltaSource.model_validate({"url": str(tmp_path / "table"), **config}).lookback
    window = Window(TODAY, since - span, until_now().before)
    assert delta(tmp_path / "table", into, window, **config) == Extracted(None, {"version": 0})
    assert ids(into) == wanted


def test_a_window_of_dates_counts_the_days_that_it_touches(tmp_path: Path, into: Path) -> None:
    window = until_now()
    days = [window.before.date() - timedelta(days=number) for number in range(4)]
    pl.DataFrame({"customer_id": ["0", "1", "2", "3"], "changed": days}).write_delta(str(tmp_path / "table"))
    delta(tmp_path / "table", into, until_now(), window="changed")
    assert ids(into) == ["0", "1"]


@pytest.mark.parametrize(("window", "said"), [("gone", "which the table lacks"), ("customer_id", "which is no time")])
def test_a_window_must_be_a_column_that_is_a_time(tmp_path: Path, into: Path, window: str, said: str) -> None:
    customers("c1").write_delta(str(tmp_path / "table"))
    with pytest.raises(SettingsError, match=f"customers.delta.window names the column '{window}', {said}"):
        delta(tmp_path / "table", into, until_now(), window=window)
    assert list(into.iterdir()) == []


def test_a_delta_table_that_is_not_there_is_named(tmp_path: Path, into: Path) -> None:
    with pytest.raises(SettingsError, match=r"customers.delta.url names no Delta table \(.*none\): correct it"):
        delta(tmp_path / "none", into, until_now())


def test_a_path_from_nowhere_is_refused() -> None:
    with pytest.raises(ValueError, match="'tables/customers' is a path from nowhere"):
        DeltaSource(url="tables/customers")


def test_secrets_are_named_and_never_told(into: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {"secrets": {"AWS_SECRET_ACCESS_KEY": "SHOP_S3"}, "options": {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_ALLOW_HTTP": "true", "AWS_REGION": "eu-west-1",
        "AWS_ACCESS_KEY_ID": "key", "max_retries": "0", "retry_timeout": "1s",
    }}  # fmt: skip
    with pytest.raises(SettingsError, match=r"customers.delta.secrets.AWS_SECRET_ACCESS_KEY names .* SHOP_S3"):
        delta("s3://bucket/table", into, until_now(), **asked)
    monkeypatch.setenv("SHOP_S3", "geheim-und-lang")
    with pytest.raises(SourceUnavailable, match=r"^customers.delta cannot be read") as raised:
        delta("s3://bucket/table", into, until_now(), **asked)
    assert "geheim" not in str(raised.value)
    assert raised.value.__cause__ is None


@pytest.mark.parametrize(
    "name",
    ["AWS_SECRET_ACCESS_KEY", "aws_session_token", "azure_storage_account_key", "s3.secret-access-key", "token",
     "credential", "adls.sas-token", "google_service_account_key", "password"],
)  # fmt: skip
def test_a_secret_under_options_is_refused_and_not_told(name: str) -> None:
    for model, more in ((DeltaSource, {"url": "s3://b/t"}), (IcebergSource, {"table": "a.b"})):
        with pytest.raises(ValidationError) as raised:
            model.model_validate({"options": {name: "geheim"}, **more})
        [error] = raised.value.errors(include_input=False)
        assert error["msg"].startswith(f"Value error, {name} is a secret: write it under `secrets:`, with the name")


def test_a_password_within_a_url_is_a_secret_too() -> None:
    with pytest.raises(ValidationError, match="uri is a secret: write it under `secrets:`"):
        IcebergSource.model_validate({"table": "a.b", "options": {"uri": "postgresql://u:geheim@h/d"}})
    options = {"AWS_ACCESS_KEY_ID": "k", "s3.access-key-id": "k", "token-refresh-enabled": "true", "uri": "http://h:1/",
               "AWS_WEB_IDENTITY_TOKEN_FILE": "/f", "aws_skip_signature": "true"}  # fmt: skip
    assert DeltaSource(url="s3://b/t", options=options).options == options


# Iceberg


@pytest.fixture
def catalogue(tmp_path: Path) -> Iterator[tuple[Catalog, dict[str, str]]]:
    warehouse = tmp_path / "warehouse"
    warehouse.mkdir()
    options = {"type": "sql", "uri": f"sqlite:///{tmp_path}/catalogue.db", "warehouse": warehouse.as_uri()}
    found = load_catalog("source", **options)
    found.create_namespace("shop")
    yield found, options
    found.close()


def iceberg(options: dict[str, str], into: Path, asked: Window, **more: Any) -> Extracted:
    config = IcebergSource.model_validate({"table": "shop.customers", "options": options, **more})
    return extract_iceberg(config, asked, into, place="customers.iceberg")


def test_an_iceberg_table_is_delivered_as_it_was_when_the_day_ended(
    catalogue: tuple[Catalog, dict[str, str]], into: Path
) -> None:
    found, options = catalogue
    first = customers("c1").to_arrow()
    table = found.create_table("shop.customers", schema=first.schema)
    assert iceberg(options, into, until_now()) == Extracted()
    table.append(first)
    then = until_now()
    table.append(customers("c2", "c3").to_arrow())
    assert iceberg(options, into, then).rows == 1
    assert ids(into) == ["c1"]
    assert iceberg(options, into, until_now()).rows == 3
    assert ids(into) == ["c1", "c2", "c3"]
    assert [path.name for path in into.iterdir()] == ["0001.parquet"]


def test_an_iceberg_table_takes_a_window(catalogue: tuple[Catalog, dict[str, str]], into: Path) -> None:
    found, options = catalogue
    rows = pl.concat([customers("old"), customers("new", at=datetime.now(UTC))]).to_arrow()
    found.create_table("shop.customers", schema=rows.schema).append(rows)
    assert iceberg(options, into, until_now(), window="changed").rows is None
    assert ids(into) == ["new"]


def test_an_iceberg_table_that_is_not_there_is_named(catalogue: tuple[Catalog, dict[str, str]], into: Path) -> None:
    with pytest.raises(SettingsError, match=r"customers.iceberg.table names no Iceberg table \(shop.customers\)"):
        iceberg(catalogue[1], into, until_now())


def test_a_catalogue_that_is_not_there_is_a_sentence(into: Path) -> None:
    with pytest.raises(SourceUnavailable, match=r"^customers.iceberg cannot be read \(\w+: "):
        iceberg({"type": "rest", "uri": "http://127.0.0.1:9"}, into, until_now())


@pytest.mark.parametrize(
    "options",
    [{"type": "nope"}, {}, {"type": "sql"}, {"type": "sql", "uri": "nonsense"}, {"type": "rest", "uri": "nonsense"}],
)
def test_a_catalogue_that_is_named_wrong_is_not_tried_again(into: Path, options: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match=r"^customers.iceberg cannot be read \(\w+: .*\): correct its `options`"):
        iceberg(options, into, until_now())
