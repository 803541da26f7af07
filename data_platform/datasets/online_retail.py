"""Importer of UCI Online Retail: one sales file a day becomes three landing deliveries of that day.

Source: D. Chen, Online Retail, UCI Machine Learning Repository; attribute UCI/Chen wherever a figure of it is shown.
Here the source is read and split, no more: copies are dropped, rows quarantined and lines numbered by the platform.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import polars as pl

from data_platform.datasets.landing_files import ENTITIES, claim_landing, write_delivery
from data_platform.errors import PlatformError

_COLUMNS = (
    "InvoiceNo",
    "StockCode",
    "Description",
    "Quantity",
    "InvoiceDate",
    "UnitPrice",
    "CustomerID",
    "Country",
)
_DAILY_FILE = re.compile(r"\d{4}-\d{2}-\d{2}\.csv")
# Wide enough for every price of the source; whether a price fits the warehouse is for staging to judge.
_PRICE = pl.Decimal(38, 10)


class ImportRefused(PlatformError):
    """The folder or one of its files is not what the importer reads; no delivery was written."""


@dataclass(frozen=True)
class ImportSummary:
    """What an import wrote. `order_rows` equals the rows of the source; the other two are observations a day."""

    first_day: date
    last_day: date
    days: int
    deliveries: int
    order_rows: int
    product_rows: int
    customer_rows: int

    @property
    def settings_needed(self) -> tuple[str, ...]:
        """Lines for the environment without which the platform has no partitions for these days."""
        return (f"DATA_PLATFORM_START_DATE={self.first_day.isoformat()}",)


def import_online_retail(
    source: Path, landing: Path, *, progress: Callable[[date], None] | None = None
) -> ImportSummary:
    """Write the deliveries of every daily file in `source` (the folder `by-day`, or the one that holds it).

    Each YYYY-MM-DD.csv gives LANDING/{orders,products,customers}/YYYY-MM-DD.csv; a calendar day without a file gets
    none. `progress` is called with each day once its three deliveries stand. Rules: README of the data set.
    Raises ImportRefused, before anything is written, where the source cannot be used, LandingOccupied where other
    deliveries are in the way, SourceUnavailable where the landing folder cannot be written.
    """
    files = daily_files(source)
    for path in files.values():
        # All are read once before the first is imported: a broken one late in the year leaves no half of an import.
        read_day(path)
    claim_landing(landing, files.keys(), "csv")
    rows = dict.fromkeys(ENTITIES, 0)
    for day, path in files.items():
        orders = orders_delivery(read_day(path))
        sales = sale_lines(orders)
        deliveries = {
            "orders": orders,
            "products": products_delivery(sales),
            "customers": customers_delivery(sales),
        }
        for entity, frame in deliveries.items():
            write_delivery(landing, entity, day, frame, "csv")
            rows[entity] += frame.height
        if progress:
            progress(day)
    return ImportSummary(
        first_day=min(files),
        last_day=max(files),
        days=len(files),
        deliveries=len(files) * len(ENTITIES),
        order_rows=rows["orders"],
        product_rows=rows["products"],
        customer_rows=rows["customers"],
    )


def daily_files(source: Path) -> dict[date, Path]:
    """The daily files in `source/by-day` or `source` by day, in order. Raises ImportRefused if there are none."""
    if source.is_file():
        raise ImportRefused(f"{source} is a file: unpack the archive and give the folder that holds the daily files.")
    if not source.is_dir():
        raise ImportRefused(f"{source} does not exist: give the folder that holds the daily files (YYYY-MM-DD.csv).")
    try:
        folder = source / "by-day" if (source / "by-day").is_dir() else source
        paths = sorted(path for path in folder.iterdir() if _DAILY_FILE.fullmatch(path.name))
    except OSError as error:
        raise ImportRefused(f"{source} cannot be read ({error.strerror}): give the permission to read it.") from error
    if not paths:
        raise ImportRefused(f"{folder} holds no daily file named YYYY-MM-DD.csv: give the folder `by-day`.")
    files = {}
    for path in paths:
        try:
            files[date.fromisoformat(path.stem)] = path
        except ValueError:
            raise ImportRefused(f"{path} is not named after a day of the calendar: rename or remove it.") from None
    return files


def read_day(path: Path) -> pl.DataFrame:
    """One daily file with every column as text, as written. Raises ImportRefused if it is no CSV of these columns."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ImportRefused(f"{path} cannot be read ({error.strerror}): give the permission to read it.") from error
    _check(path, content)
    try:
        return pl.read_csv(content, infer_schema=False).select(_COLUMNS)
    except pl.exceptions.PolarsError as error:
        # Only what comes before a quotation of the file: its rows name customers.
        detail = str(error).partition("`")[0].partition("\n")[0].strip(" .")
        raise ImportRefused(f"{path} is not a readable CSV file ({detail}): fetch it again from its source.") from error


def orders_delivery(source: pl.DataFrame) -> pl.DataFrame:
    """Every row of a daily file, under canonical names, as text.

    Description and country come along though no order has them: two rows are exact copies only if they are equal in
    every column of the source. All columns are trimmed, product ids upper case, customer ids without their `.0`;
    what is left empty is null.
    """
    text = {name: pl.col(name).str.strip_chars() for name in _COLUMNS}
    frame = source.select(
        order_id=text["InvoiceNo"],
        product_id=text["StockCode"].str.to_uppercase(),
        customer_id=text["CustomerID"].str.replace(r"^(\d+)\.0*$", "${1}"),
        order_ts=text["InvoiceDate"],
        quantity=text["Quantity"],
        unit_price=text["UnitPrice"],
        description=text["Description"],
        country=text["Country"],
    )
    return frame.with_columns(pl.all().replace("", None))


def sale_lines(orders: pl.DataFrame) -> pl.DataFrame:
    """The rows of an orders delivery that are sales: first of its copies, not to be quarantined, quantity above 0.

    Adds `price`, the unit price as a number. The platform classes the delivery by itself; this serves the products
    and customers that are seen in it.
    """
    return (
        orders.unique(keep="first", maintain_order=True)
        .with_columns(price=pl.col("unit_price").cast(_PRICE, strict=False))
        .filter(
            pl.col("order_id").is_not_null(),
            pl.col("product_id").is_not_null(),
            pl.col("quantity").cast(pl.Int64, strict=False) > 0,
            pl.col("price") >= 0,
        )
    )


def products_delivery(sales: pl.DataFrame) -> pl.DataFrame:
    """The products seen in a day's sale lines that have a description and a price above 0, one row each.

    product_name is the most frequent description (tie: the smallest), unit_price the most frequent price (tie: the
    largest).
    """
    priced = sales.filter(pl.col("description").is_not_null(), pl.col("price") > 0)
    names = _most_frequent(priced, "product_id", "description", descending=False)
    prices = _most_frequent(priced, "product_id", "price", descending=True)
    return names.join(prices, on="product_id", validate="1:1", maintain_order="left").select(
        "product_id",
        product_name="description",
        # As short as the source writes it: 2.55, not 2.5500000000.
        unit_price=pl.col("price").cast(pl.String).str.strip_chars_end("0").str.strip_chars_end("."),
    )


def customers_delivery(sales: pl.DataFrame) -> pl.DataFrame:
    """The customers named in a day's sale lines, one row each, with the most frequent country (tie: the smallest)."""
    named = sales.filter(pl.col("customer_id").is_not_null())
    return _most_frequent(named, "customer_id", "country", descending=False)


def _most_frequent(lines: pl.DataFrame, key: str, value: str, *, descending: bool) -> pl.DataFrame:
    return (
        lines.group_by(key, value)
        .agg(frequency=pl.len())
        .sort(key, "frequency", value, descending=[False, True, descending], nulls_last=True)
        .unique(key, keep="first", maintain_order=True)
        .select(key, value)
    )


def _check(path: Path, content: bytes) -> None:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ImportRefused(f"{path} is not UTF-8 in line {line}: convert it, or fetch it again.") from None
    header = [name.strip('"') for name in text.partition("\n")[0].rstrip("\r").split(",")]
    missing = [name for name in _COLUMNS if name not in header]
    if missing:
        raise ImportRefused(
            f"{path} lacks the column {missing[0]}: its first line must name {', '.join(_COLUMNS)}, "
            f"separated by commas."
        )
