"""How many injected faults drift detection finds, and how often it cries wolf on clean partitions.

Clean data: the demo shop (several seeds) and the real year of UCI Online Retail (D. Chen, UCI Machine Learning
Repository). Its real events stay in: a bulk order that is flagged counts as a false alarm, and is listed.
Needs the Online Retail data beside the clone, or where DATA_PLATFORM_TEST_DATA says.
"""

import argparse
import json
import os
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from data_platform.contracts import STAGED
from data_platform.datasets.demo_shop import ShopSize, generate
from data_platform.datasets.online_retail import daily_files, import_online_retail
from data_platform.quality.drift import LEAST_PARTITIONS, Anomaly, judge
from data_platform.quality.profiles import Profile, profile
from data_platform.settings import REPOSITORY
from data_platform.sources.config import Source
from data_platform.transforms.staging import stage_window

# Faults and their sizes, fixed before the limits of drift.py were tuned and not changed since.
ROWS_LEFT = 0.5  # "half of the rows": of the lines at random; "file cut": the first ones as delivered
GONE_CATEGORY = "Garden"  # demo shop: all lines of its products; 2 of 14 kinds of products
GONE_PREFIX = "22"  # Online Retail, which has no categories: products whose code begins so
GONE_STATUS = "returned"  # demo shop: lines of this status; Online Retail: all negative quantities
PRICE_FACTOR = 100  # on all lines, or on
PRICE_SHARE = 0.3  # of the lines
CURRENCY_FACTOR = 7.46  # kroner for euros, on
CURRENCY_SHARE = 0.15  # of the orders
NULL_SHARES = (0.1, 0.2, 0.3, 0.4, 0.5)  # customer_id, on as many days in a row; found if one of them is flagged
CLOCK_HOURS = (2, -5)

# Limits were tuned on the first list alone, and of Online Retail on clean partitions up to TUNING_UNTIL alone.
TUNING_SEEDS = (11, 12, 13)
# 101 to 105 were reported on first; what they showed led to other figures and limits, so that they are spent.
REPORTING_SEEDS = (201, 202, 203, 204, 205)
TUNING_UNTIL = date(2011, 6, 30)
INJECTIONS = 8  # of each fault into each demo shop; Online Retail: three times as many
SHOP = ShopSize(days=120)
START = date(2024, 1, 1)

DATA = Path(os.environ.get("DATA_PLATFORM_TEST_DATA") or REPOSITORY.parent / "shared" / "data") / "online_retail"
Rows = pl.DataFrame
Rng = np.random.Generator


@dataclass(frozen=True)
class DataSet:
    """Staged rows and profiles by table and day. `category` is true for the lines of the category that goes."""

    name: str
    rows: Mapping[str, Mapping[date, Rows]]
    profiles: Mapping[str, Mapping[date, Profile]]
    category: pl.Expr
    numbered_anew: bool

    def judged_days(self, table: str) -> list[date]:
        """The days on which there is enough history to judge."""
        return sorted(self.profiles[table])[LEAST_PARTITIONS:]


@dataclass(frozen=True)
class Fault:
    """`inject` makes a day's rows bad: (data set, day's rows, rows of the partition before, random numbers, step)."""

    name: str
    inject: Callable[[DataSet, Rows, Rows, Rng, int], Rows]
    steps: int = 1


def _lines(rows: Rows, share: float, rng: Rng) -> pl.Series:
    return pl.Series(rng.random(rows.height) < share)


def _priced(rows: Rows, factor: float, where: pl.Series) -> Rows:
    scaled = {
        name: pl.when(where).then((pl.col(name).cast(pl.Float64) * factor).cast(pl.Decimal(18, 4))).otherwise(name)
        for name in ("unit_price", "discount_amount", "total_amount")
    }
    return rows.with_columns(**scaled)


def _again(rows: Rows) -> Rows:
    return rows.with_columns(order_id="X" + pl.col("order_id"))


def _currency(rows: Rows, rng: Rng) -> Rows:
    orders = rows.get_column("order_id").unique(maintain_order=True)
    foreign = orders.filter(pl.Series(rng.random(len(orders)) < CURRENCY_SHARE))
    return _priced(rows, CURRENCY_FACTOR, rows.get_column("order_id").is_in(foreign.implode()))


def _nulls(rows: Rows, rng: Rng, step: int) -> Rows:
    return rows.with_columns(customer_id=pl.when(~_lines(rows, NULL_SHARES[step], rng)).then("customer_id"))


def _clock(rows: Rows, hours: int) -> Rows:
    return rows.with_columns(order_ts=pl.col("order_ts") + pl.duration(hours=hours))


FAULTS = (
    Fault("half of the rows", lambda _s, rows, _b, rng, _n: rows.filter(_lines(rows, ROWS_LEFT, rng))),
    Fault("file cut in the middle", lambda _s, rows, _b, _r, _n: rows.head(round(rows.height * ROWS_LEFT))),
    Fault("day twice, new ids", lambda _s, rows, _b, _r, _n: pl.concat([rows, _again(rows)])),
    Fault("yesterday again, new ids", lambda _s, rows, before, _r, _n: pl.concat([rows, _again(before)])),
    Fault("category gone", lambda data, rows, _b, _r, _n: rows.filter(~data.category)),
    Fault(
        "returns gone",
        lambda _s, rows, _b, _r, _n: rows.filter(
            (pl.col("status").fill_null("") != GONE_STATUS) & (pl.col("quantity").fill_null(1) >= 0)
        ),
    ),
    Fault("prices ×100", lambda _s, rows, _b, rng, _n: _priced(rows, PRICE_FACTOR, _lines(rows, 1.0, rng))),
    Fault(
        "prices ×100, 30 % of lines",
        lambda _s, rows, _b, rng, _n: _priced(rows, PRICE_FACTOR, _lines(rows, PRICE_SHARE, rng)),
    ),
    Fault("currency mixed", lambda _s, rows, _b, rng, _n: _currency(rows, rng)),
    Fault("nulls creeping in", lambda _s, rows, _b, rng, step: _nulls(rows, rng, step), steps=len(NULL_SHARES)),
    Fault("clock +2 h", lambda _s, rows, _b, _r, _n: _clock(rows, CLOCK_HOURS[0])),
    Fault("clock −5 h", lambda _s, rows, _b, _r, _n: _clock(rows, CLOCK_HOURS[1])),
)


def demo(seed: int) -> DataSet:
    """A demo shop of 120 days."""
    with tempfile.TemporaryDirectory() as folder:
        landing = Path(folder)
        generate(landing, start=START, size=SHOP, seed=seed)
        staged = {table: _staged(landing, table) for table in STAGED}
    gone = pl.concat(staged["products"].values()).filter(pl.col("category") == GONE_CATEGORY)
    category = pl.col("product_id").is_in(gone.get_column("product_id").unique().implode())
    return _with_profiles(f"demo {seed}", staged, category, numbered_anew=False)


def online_retail() -> DataSet:
    """The whole year. Raises SystemExit where the data is not there."""
    if not DATA.is_dir():
        raise SystemExit(f"The Online Retail data is not at {DATA}: set DATA_PLATFORM_TEST_DATA to the folder above.")
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(DATA / "by_day.tar.xz") as archive:
            archive.extractall(folder, filter="data")
        assert daily_files(Path(folder)), "the archive holds daily files"
        import_online_retail(Path(folder), Path(folder) / "landing")
        staged = {table: _staged(Path(folder) / "landing", table) for table in STAGED}
    category = pl.col("product_id").str.starts_with(GONE_PREFIX)
    return _with_profiles("Online Retail", staged, category, numbered_anew=True)


def _staged(landing: Path, entity: str) -> dict[date, Rows]:
    frames = []
    for path in sorted((landing / entity).iterdir()):
        read = pl.read_parquet(path) if path.suffix == ".parquet" else pl.read_csv(path, infer_schema=False)
        rows = pl.int_range(1, pl.len() + 1, dtype=pl.Int64)
        frames.append(read.with_columns(_partition=date.fromisoformat(path.stem), _file=pl.lit(path.name), _row=rows))
    raw = pl.concat(frames)
    days = raw.get_column("_partition").unique().sort().to_list()
    source = Source.model_validate({"entity": entity})
    window = stage_window(raw, days, contract=STAGED[entity], source=source, timezone="UTC")
    return {one.day: one.rows for one in window}


def _with_profiles(
    name: str, staged: Mapping[str, Mapping[date, Rows]], category: pl.Expr, *, numbered_anew: bool
) -> DataSet:
    profiles = {table: _profiles(table, days) for table, days in staged.items()}
    return DataSet(name, staged, profiles, category, numbered_anew)


def _profiles(table: str, days: Mapping[date, Rows]) -> dict[date, Profile]:
    rows = pl.concat(frame.with_columns(_partition=day) for day, frame in days.items())
    empty = {day: Profile(0) for day in days}
    return empty | profile(rows.with_columns(pl.col("_partition").cast(pl.Date)), STAGED[table])


@dataclass(frozen=True)
class Injected:
    """One fault on one day: what told of it, and how many of the next two clean days were flagged for it."""

    data: str
    fault: str
    day: date
    told: tuple[Anomaly, ...]
    after: int


def inject(data: DataSet, count: int, seed: int, until: date = date.max) -> Iterator[Injected]:
    """Each fault on `count` random days of the orders, one at a time."""
    history = data.profiles["orders"]
    days = [day for day in data.judged_days("orders") if day <= until]
    all_days = sorted(history)
    clean = {day: _metrics(judge(history, day)) for day in days}
    for number, fault in enumerate(FAULTS):
        rng = np.random.default_rng((seed, number))
        # Room for all steps, and for the two days after.
        for place in sorted(rng.choice(len(days) - fault.steps - 2, count, replace=False)):
            hit = days[place : place + fault.steps]
            bad = dict(history)
            told: list[Anomaly] = []
            for step, day in enumerate(hit):
                before = data.rows["orders"][all_days[all_days.index(day) - 1]]
                rows = fault.inject(data, data.rows["orders"][day], before, rng, step)
                bad |= _profiles("orders", {day: _numbered(rows) if data.numbered_anew else rows})
                # What is flagged without the fault does not count as having found it.
                told += [one for one in judge(bad, day) if one.metric not in clean[day]]
            next_days = days[place + fault.steps : place + fault.steps + 2]
            after = sum(bool(_metrics(judge(bad, day)) - clean[day]) for day in next_days)
            yield Injected(data.name, fault.name, hit[0], tuple(told), after)


def _metrics(anomalies: list[Anomaly]) -> set[str]:
    return {one.metric for one in anomalies}


def _numbered(rows: Rows) -> Rows:
    """As staging numbers the lines of a source that has no numbers."""
    return rows.with_columns(line_number=pl.int_range(1, pl.len() + 1, dtype=pl.Int32).over("order_id"))


def alarms(data: DataSet, table: str) -> dict[date, list[Anomaly]]:
    """What is flagged on each clean partition that is judged; an empty list where nothing is."""
    return {day: judge(data.profiles[table], day) for day in data.judged_days(table)}


def main() -> int:
    """Print the tables; 1 if the aim is missed: nine of ten faults found, one false alarm in sixty clean partitions."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tuning", action="store_true", help="the seeds and days that limits may be tuned on")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    seeds = TUNING_SEEDS if options.tuning else REPORTING_SEEDS
    until = TUNING_UNTIL if options.tuning else date.max
    injected: list[Injected] = []
    clean: list[dict[str, Any]] = []
    for data, count, last in _data_sets(seeds, until):
        for table in STAGED:
            flagged = {day: found for day, found in alarms(data, table).items() if day <= last}
            clean += [_clean(data.name, table, day, found) for day, found in flagged.items()]
        injected += inject(data, count, seeds[0], last)
    figures = _figures(injected, clean)
    _print(figures, clean)
    if options.json:
        options.json.write_text(
            json.dumps(figures | {"flagged": [one for one in clean if one["told"]]}, indent=1) + "\n"
        )
    overall = figures["overall"]
    return 0 if overall["recall"] >= 0.9 and overall["false_alarms"] * 60 <= overall["clean"] else 1


def _data_sets(seeds: tuple[int, ...], until: date) -> Iterator[tuple[DataSet, int, date]]:
    for seed in seeds:
        yield demo(seed), INJECTIONS, date.max
    yield online_retail(), 3 * INJECTIONS, until


def _clean(data: str, table: str, day: date, found: list[Anomaly]) -> dict[str, Any]:
    group = "Online Retail" if data == "Online Retail" else "demo shop"
    unseen = group == "demo shop" or day > TUNING_UNTIL
    return {"data": data, "group": group, "table": table, "day": day.isoformat(), "unseen": unseen,
            "told": [one.sentence for one in found]}  # fmt: skip


def _figures(injected: list[Injected], clean: list[dict[str, Any]]) -> dict[str, Any]:
    """Recall by fault and kind of data, false alarms by table, and both for each kind of data and overall."""
    found: dict[str, dict[str, str]] = {}
    for fault in FAULTS:
        hits = [one for one in injected if one.fault == fault.name]
        real = [one for one in hits if one.data == "Online Retail"]
        made = [one for one in hits if one.data != "Online Retail"]
        found[fault.name] = {
            group: f"{sum(bool(one.told) for one in some)}/{len(some)}"
            for group, some in (("demo shop", made), ("Online Retail", real))
        }
    tables = {
        f"{group}, {table}": _share([one for one in clean if (one["group"], one["table"]) == (group, table)])
        for group in ("demo shop", "Online Retail")
        for table in STAGED
    }
    unseen = [one for one in clean if one["group"] == "Online Retail" and one["unseen"]]
    tables["Online Retail, after what limits were tuned on"] = _share(unseen)
    summary = {
        group: _summary(
            [one for one in injected if (one.data == "Online Retail") == (group == "Online Retail")],
            [one for one in clean if one["group"] == group],
        )
        for group in ("demo shop", "Online Retail")
    }
    return {"found": found, "false_alarms": tables, **summary, "overall": _summary(injected, clean)}


def _share(clean: list[dict[str, Any]]) -> str:
    return f"{sum(bool(one['told']) for one in clean)}/{len(clean)}"


def _summary(injected: list[Injected], clean: list[dict[str, Any]]) -> dict[str, Any]:
    found = sum(bool(one.told) for one in injected)
    false = sum(bool(one["told"]) for one in clean)
    return {
        "injected": len(injected),
        "found": found,
        "recall": round(found / len(injected), 3),
        "clean": len(clean),
        "false_alarms": false,
        "precision": round(found / max(found + false, 1), 3),
        "next_clean_days": 2 * len(injected),
        "flagged_for_a_fault_before": sum(one.after for one in injected),
    }


def _print(figures: dict[str, Any], clean: list[dict[str, Any]]) -> None:
    print(f"{'found of injected':<48}{'demo shop':>12}{'Online Retail':>16}")
    for fault, found in figures["found"].items():
        print(f"{fault:<48}{found['demo shop']:>12}{found['Online Retail']:>16}")
    print("\nclean partitions flagged")
    for table, share in figures["false_alarms"].items():
        print(f"{table:<48}{share:>12}")
    print()
    for group in ("demo shop", "Online Retail", "overall"):
        print(group, *(f"{name} {value}" for name, value in figures[group].items()), sep="  ")
    print("\nWhat was flagged on clean partitions:")
    for one in clean:
        if one["told"]:
            print(f"{one['data']}, {one['table']} {one['day']}: {one['told'][0]} (and {len(one['told']) - 1} more)")


if __name__ == "__main__":
    sys.exit(main())
