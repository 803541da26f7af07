"""A day that arrives in many small deliveries: files of order lines that are added and replaced, lists that grow."""

import csv
import random
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

from data_platform_tests.shop import customer, product

FIRST_PRODUCTS, FIRST_CUSTOMERS = 20, 30
ORDERS = range(5, 16)  # of one delivery
LINES = range(1, 4)  # of one order
REPLACED = 4  # each so many deliveries one replaces a file that was delivered before
LISTED = 12  # each so many deliveries the list of products, or of customers, is delivered anew


class BusyDay:
    """Writes the landing files of `day`; the same `seed` gives the same deliveries."""

    def __init__(self, landing: Path, day: date, seed: int) -> None:
        self._landing, self._day, self._random = landing, day, random.Random(seed)
        self._files: list[list[dict[str, Any]]] = []
        self._products = [f"p{number}" for number in range(FIRST_PRODUCTS)]
        self._customers = [f"c{number}" for number in range(FIRST_CUSTOMERS)]

    @property
    def lines(self) -> int:
        """Order lines that lie in the landing folder."""
        return sum(map(len, self._files))

    def deliver(self, number: int) -> list[Path]:
        """The delivery of that number, counted from 0: the files that were written, each whole."""
        written = []
        if number % LISTED == 0:
            self._products.append(f"p{len(self._products)}")
            rows = [product(one, cost=f"{self._random.randrange(1, 9)}.50") for one in self._products]
            written.append(self._write("products", f"{self._day}.csv", rows))
        if number % LISTED in (0, LISTED // 2):
            self._customers.append(f"c{len(self._customers)}")
            rows = [customer(one, segment=self._random.choice(["retail", "trade"])) for one in self._customers]
            written.append(self._write("customers", f"{self._day}.csv", rows))
        if number % REPLACED == REPLACED - 1:
            place = self._random.randrange(len(self._files))
            self._files[place] = [self._corrected(line, number) for line in self._files[place]]
        else:
            place = len(self._files)
            orders = range(self._random.choice(ORDERS))
            self._files.append([line for order in orders for line in self._order(number, order)])
        return [*written, self._write("orders", f"{self._day}/{place:04}.csv", self._files[place])]

    def _order(self, number: int, order: int) -> list[dict[str, Any]]:
        moment = datetime.combine(self._day, datetime.min.time()) + timedelta(minutes=5 * number)
        bought_by = self._random.choice(self._customers)
        return [
            {
                "order_id": f"o{number}-{order}",
                "line_number": line,
                "customer_id": bought_by,
                "product_id": self._random.choice(self._products),
                "quantity": self._random.randrange(1, 5),
                "unit_price": f"{self._random.randrange(5, 50)}.00",
                "order_ts": moment.isoformat(),
                "updated_at": moment.isoformat(),
            }
            for line in range(1, self._random.choice(LINES) + 1)
        ]

    def _corrected(self, line: Mapping[str, Any], number: int) -> dict[str, Any]:
        moment = datetime.combine(self._day, datetime.min.time()) + timedelta(minutes=5 * number)
        return {**line, "quantity": line["quantity"] % 7 + 1, "updated_at": moment.isoformat()}

    def _write(self, entity: str, name: str, rows: Sequence[Mapping[str, Any]]) -> Path:
        path = self._landing / entity / name
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f".{path.name}")
        with aside.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        return aside.replace(path)
