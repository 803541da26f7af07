from datetime import date
from pathlib import Path

import pytest
from pydantic import ValidationError

from data_platform.errors import SettingsError
from data_platform.sources.config import ColumnSpec, Source, load_sources


def sources_yaml(folder: Path, text: str) -> Path:
    path = folder / "sources.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_an_absent_file_gives_every_entity_its_defaults(tmp_path: Path) -> None:
    sources = load_sources(tmp_path / "sources.yaml")
    assert list(sources) == ["orders", "products", "customers"]
    assert sources["orders"] == Source(entity="orders")
    assert sources["orders"].order_floor == date(2000, 1, 1)
    assert (sources["orders"].reject_share, sources["orders"].reject_rows) == (0.05, 10)
    assert (sources["products"].mode, sources["products"].exact_copies) == ("changes", "drop")


@pytest.mark.parametrize("text", ["", "# nothing but a comment\n", "orders:\n"])
def test_an_empty_file_or_entity_is_as_good_as_none(tmp_path: Path, text: str) -> None:
    assert load_sources(sources_yaml(tmp_path, text)) == load_sources(tmp_path / "absent.yaml")


def test_every_setting_is_read(tmp_path: Path) -> None:
    path = sources_yaml(
        tmp_path,
        r"""
orders:
  columns:
    order_id: {from: InvoiceNo, prefix: shop-}
    product_id: StockCode
    unit_price: {from: Price, decimal: comma}
    order_ts: {from: InvoiceDate, format: "%d/%m/%Y %H:%M", timezone: Europe/London}
    status: {constant: completed}
    line_number: {constant: 1}
    updated_at: {constant: 2024-01-05}
  delimiter: \t
  encoding: cp1252
  quote: ""
  unit: order
  exact_copies: keep
  reject_share: 0.1
  order_floor: 2009-12-01
  currency: GBP
customers:
  mode: full
  accept_deletions: [2024-03-01, 2024-04-01]
  deletion_share: 0.5
  deletion_rows: 3
""",
    )
    sources = load_sources(path)
    orders, customers = sources["orders"], sources["customers"]
    assert orders.columns["order_id"] == ColumnSpec.model_validate({"from": "InvoiceNo", "prefix": "shop-"})
    assert orders.columns["product_id"] == ColumnSpec.model_validate({"from": "StockCode"})
    assert orders.columns["unit_price"].decimal == "comma"
    assert orders.columns["order_ts"].timezone == "Europe/London"
    assert [orders.columns[name].constant for name in ("status", "line_number", "updated_at")] == [
        "completed",
        "1",
        "2024-01-05",
    ]
    assert (orders.delimiter, orders.encoding, orders.quote) == ("\t", "cp1252", None)
    assert (orders.unit, orders.exact_copies, orders.currency) == ("order", "keep", "GBP")
    assert orders.order_floor == date(2009, 12, 1)
    assert customers.mode == "full"
    assert customers.accept_deletions == (date(2024, 3, 1), date(2024, 4, 1))
    assert sources["products"] == Source(entity="products")


def test_a_source_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        Source(entity="orders").delimiter = ";"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("order:\n  unit: line\n", ["'order'", "did you mean orders?"]),
        ("orders:\n  delimeter: ;\n", ["orders.delimeter", "did you mean delimiter?"]),
        ("orders:\n  columns:\n    order_id: {frm: Id}\n", ["orders.columns.order_id.frm", "did you mean from?"]),
        ("orders:\n  columns:\n    order_id: [Id]\n", ["orders.columns.order_id", "name of a delivered column"]),
        ("orders:\n  columns:\n    order_id: {from: A, constant: B}\n", ["orders.columns.order_id", "both"]),
        ("orders:\n  columns:\n    order_ts: {timezone: Mars/Base}\n", ["timezone", "Mars/Base", "Europe/London"]),
        ("orders:\n  columns:\n    order_ts: {format: dd/mm/yyyy}\n", ["format", "strftime"]),
        ("orders:\n  columns:\n    order_ts: {format: '%d/%Q'}\n", ["format", "strftime"]),
        ("orders:\n  columns:\n    order_ts: {format: '%H:%M:%S,%f'}\n", ["format", "%.f"]),
        ("orders:\n  columns:\n    unit_price: {decimal: ','}\n", ["orders.columns.unit_price.decimal", "comma"]),
        ("orders:\n  columns:\n    unitprice: Price\n", ["orders.columns.unitprice", "did you mean unit_price?"]),
        ("orders:\n  delimiter: ';;'\n", ["orders.delimiter", "one ASCII character"]),
        ("orders:\n  quote: ','\n", ["`delimiter` and `quote`"]),
        ("orders:\n  encoding: latin-99\n", ["orders.encoding", "latin-99", "latin-1"]),
        ("orders:\n  encoding: hex\n", ["orders.encoding", "hex"]),
        ("orders:\n  unit: lines\n", ["orders.unit", "'line' or 'order'"]),
        ("orders:\n  reject_share: 5\n", ["orders.reject_share", "less than or equal to 1"]),
        ("orders:\n  mode: full\n", ["`mode`", "products and customers only"]),
        ("products:\n  unit: line\n", ["`unit`", "orders only"]),
        ("products:\n  accept_deletions: [yesterday]\n", ["products.accept_deletions.0"]),
        ("products:\n  entity: orders\n", ["products.entity"]),
        ("orders:\n  name: shop\n", ["orders.name", "take it out"]),
        ("orders:\n  sources: {shop: {entity: products}}\n", ["sources: shop: entity", "take it out"]),
        ("orders:\n  sources: {shop: {name: other}}\n", ["sources: shop: name", "take it out"]),
        ("orders:\n  sources: {../shop: {}}\n", ["orders.sources.../shop.name"]),
        ("orders:\n  sources: {shop: {reject_rows: 3}, tills: {}}\n", ["`reject_rows`", "set it once"]),
        ("orders:\n  sources: {shop: {currency: EUR}, tills: {currency: USD}}\n", ["`currency`", "set it once"]),
        ("customers:\n  sources: {shop: {closed_on: [sun]}, club: {}}\n", ["`closed_on`", "set it once"]),
        ("orders: all\n", ["orders must hold keys"]),
        ("- orders\n", ["one key per entity"]),
        ("orders:\n  unit: line\n  unit: order\n", ["line 3", "given twice"]),
        ("orders:\n  unit: [line\n", ["line 3", "not valid YAML"]),
        ("orders:\n  order_floor: 2024-13-45\n", ["sources.yaml"]),
        ("orders: !!python/object:os.system {}\n", ["not valid YAML"]),
    ],
)
def test_a_mistake_is_one_sentence_that_names_file_key_and_mend(tmp_path: Path, text: str, words: list[str]) -> None:
    known = {"orders": ["order_id", "unit_price", "order_ts"]}
    with pytest.raises(SettingsError) as caught:
        load_sources(sources_yaml(tmp_path, text), known)
    sentence = str(caught.value)
    assert "sources.yaml" in sentence
    assert sentence.endswith(".")
    assert "\n" not in sentence
    for word in words:
        assert word in sentence


def test_a_file_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "sources.yaml"
    path.write_bytes(b"orders: # caf\xe9\n")
    with pytest.raises(SettingsError, match="not UTF-8"):
        load_sources(path)


def test_a_folder_in_the_files_place_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        load_sources(tmp_path)
