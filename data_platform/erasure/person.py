"""One erasure under way: whom it is about, by what it works, and where the person's rows were found."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property

import polars as pl
import psycopg
from psycopg import sql

from data_platform.contracts import WAREHOUSE
from data_platform.contracts.contract import Contract
from data_platform.erasure import archives
from data_platform.erasure.rows import ID, NAMING, Erased, erased_delivered, erased_staged
from data_platform.lake import DELETED, Lake, LakePath, Stamp, read_file
from data_platform.settings import Settings
from data_platform.sources.config import Source
from data_platform.warehouse.connection import connected

# A short id, or one without a letter, may mean anything in a text.
DISTINCT = 4


@dataclass(frozen=True)
class Found:
    """A partition that names the person: rows of it, and rows of its quarantine."""

    asset: str
    day: date
    rows: int
    quarantined: int = 0


@dataclass
class Erasure:
    """What the places of an erasure share. `personal` has what is known of the person, to be looked for in texts."""

    settings: Settings
    lake: Lake
    warehouse_url: str
    dagster_url: str
    sources: Mapping[str, Source]
    customer_id: str
    pseudonym: str
    run_id: str
    personal: dict[str, set[str]] = field(default_factory=dict)
    raw: list[Found] = field(default_factory=list)
    staged: list[Found] = field(default_factory=list)
    archives: dict[str, Lake] = field(default_factory=dict)
    copies: int = 0

    def among(self, ids: Iterable[str | None]) -> dict[str, str]:
        """The person's pseudonym, if `ids` have the id."""
        return {self.customer_id: self.pseudonym} if self.customer_id in set(ids) else {}

    def delivered(self, frame: pl.DataFrame, entity: str) -> Erased:
        """Rows as raw or quarantine keep them, without the person."""
        return erased_delivered(frame, self.sources[entity], NAMING[entity], self.among)

    def rejected(self, asset: str, day: date, stamp: Stamp) -> pl.DataFrame | None:
        """The quarantine of a staged partition; None where it has none."""
        path: LakePath = self.lake.quarantine_path(asset, day, stamp)
        return read_file(path) if stamp.rows_quarantined and path.exists() else None

    def find(self) -> None:
        """Look through raw, staging, quarantine and the dimension for the person, and remember where they are.

        Raises SourceUnavailable where an archive of retention is away.
        """
        self.archives = archives.named_archives(self.settings, self.lake)
        self.raw, self.staged = list(self._in_raw()), list(self._in_staging())
        self.copies = 0
        for copy in archives.copies(self):
            self._learn(copy.found)
            self.copies += 1
        self._learn(self._in_dimension())

    def _in_raw(self) -> Iterator[Found]:
        for entity in NAMING:
            asset = f"raw_{entity}"
            for day, stamp in self.lake.stamps(asset).items():
                if stamp.moved == DELETED:
                    continue
                done = self.delivered(self.lake.read(asset, day), entity)
                self._learn(done)
                if done.rows:
                    yield Found(asset, day, done.rows)

    def _in_staging(self) -> Iterator[Found]:
        for entity, contract in NAMING.items():
            for day, stamp in self.lake.stamps(contract.table).items():
                done = erased_staged(self.lake.read(contract.table, day), contract, self.among)
                self._learn(done)
                rejected = self.rejected(contract.table, day, stamp)
                waiting = Erased(pl.DataFrame()) if rejected is None else self.delivered(rejected, entity)
                self._learn(waiting)
                if done.rows or waiting.rows:
                    yield Found(contract.table, day, done.rows, waiting.rows)

    def _in_dimension(self) -> Erased:
        contract: Contract = WAREHOUSE["dim_customer"]
        columns = [ID, *contract.pii_columns]
        with connected(self.warehouse_url, writes=False) as connection:
            rows = connection.execute(
                sql.SQL("SELECT {} FROM {} WHERE {} = %s").format(
                    sql.SQL(", ").join(map(sql.Identifier, columns)),
                    sql.Identifier(contract.schema, contract.table),
                    sql.Identifier(ID),
                ),
                [self.customer_id],
            ).fetchall()
        frame = pl.DataFrame(rows, schema=dict.fromkeys(columns, pl.String), orient="row")
        return erased_staged(frame, contract, self.among)

    def _learn(self, found: Erased) -> None:
        for name, values in found.personal.items():
            self.personal.setdefault(name, set()).update(values)

    @cached_property
    def needles(self) -> dict[str, str]:
        """What tells of the person wherever it stands in a text, longest first, with what takes its place."""
        names = [f"{first} {last}" for first in self.personal.get("first_name", ())
                 for last in self.personal.get("last_name", ())]  # fmt: skip
        values = {value for value in self.personal.get("email", ()) if "@" in value} | set(names)
        found = dict.fromkeys(values, "•••")
        if len(self.customer_id) >= DISTINCT and any(sign.isalpha() for sign in self.customer_id):
            found[self.customer_id] = self.pseudonym
        return dict(sorted(found.items(), key=lambda one: -len(one[0])))

    def cleaned(self, text: str) -> str:
        """`text` without the person: what `needles` has, and the id where it is the value of a field of JSON."""
        text = self._fields.sub(rf"\g<1>{self.pseudonym}", text)
        return self._needles.sub(lambda found: self._instead[found.group()], text) if self._instead else text

    @cached_property
    def _instead(self) -> dict[str, str]:
        # As JSON writes them, too.
        return {form: instead for value, instead in self.needles.items() for form in (value, json.dumps(value)[1:-1])}

    @cached_property
    def _needles(self) -> re.Pattern[str]:
        """Any of the needles as a word of its own: o1@shop.example is not found in bo1@shop.example."""
        longest_first = sorted(self._instead, key=len, reverse=True)
        return re.compile(rf"(?<![\w@.+-])(?:{'|'.join(map(re.escape, longest_first))})(?![\w@+-]|\.\w)")

    @cached_property
    def _fields(self) -> re.Pattern[str]:
        """The id as the value of a field `customer_id` of JSON, also of JSON within JSON."""
        forms = {re.escape(self.customer_id), re.escape(json.dumps(self.customer_id)[1:-1])}
        return re.compile(rf'({ID}\\*"\s*:\s*\\*")(?:{"|".join(forms)})(?=\\*")')


def in_dimension(connection: psycopg.Connection, customer_id: str) -> tuple[int, int]:
    """Versions of a customer, and lines that point at them."""
    row = connection.execute(
        """
        WITH versions AS (SELECT customer_key FROM warehouse.dim_customer WHERE customer_id = %s)
        SELECT
            (SELECT count(*) FROM versions),
            (SELECT count(*) FROM warehouse.fact_sales JOIN versions USING (customer_key))
            + (SELECT count(*) FROM warehouse.fact_returns JOIN versions USING (customer_key))
        """,
        [customer_id],
    ).fetchone()
    assert row is not None
    return row
