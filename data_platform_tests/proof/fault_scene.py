"""The shop that faults befall: some days are published, then come deliveries that make a publish do all it can do.

Partitions 2024-12-28 to -30 are history. The run under fault covers 2024-12-29 to 2025-01-01.
"""

from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from data_platform_tests.shop import Shop, customer, line, product

HISTORY = ("2024-12-28", "2024-12-29", "2024-12-30")
FIRST, LAST = "2024-12-29", "2025-01-01"
NEW_YEARS_EVE, NEW_YEAR = "2024-12-31", "2025-01-01"

# Of each asset that can be the victim, which of Dagster's assets that is. Both fact tables are one publish.
ASSETS = {
    "raw_orders": ("raw_orders",),
    "raw_products": ("raw_products",),
    "raw_customers": ("raw_customers",),
    "stg_orders": ("stg_orders",),
    "stg_products": ("stg_products",),
    "stg_customers": ("stg_customers",),
    "dim_date": ("dim_date",),
    "dim_customer": ("dim_customer",),
    "dim_product": ("dim_product",),
    "facts": ("fact_sales", "fact_returns"),
    "mart_daily_sales": ("mart_daily_sales",),
    "mart_product_performance": ("mart_product_performance",),
    "mart_customer_value": ("mart_customer_value",),
}
IN_LAKE = tuple(name for name in ASSETS if name.startswith(("raw_", "stg_")))
IN_POSTGRES = tuple(name for name in ASSETS if name not in IN_LAKE)


@cache
def _graph() -> Any:
    from data_platform.definitions import build_defs

    return build_defs().resolve_asset_graph()


@cache
def everything() -> tuple[str, ...]:
    """All of Dagster's assets."""
    return tuple(name for names in ASSETS.values() for name in names)


@cache
def to_run_before(asset: str) -> tuple[str, ...]:
    """What has run when the asset's turn comes: all that it waits for, by the real graph."""
    import dagster as dg

    if asset == "dim_date":  # it waits for nothing, and looks how far staging reaches
        return IN_LAKE
    keys = dg.AssetSelection.assets(*ASSETS[asset]).upstream(include_self=False).resolve(_graph())
    names = {key.path[-1] for key in keys}
    return tuple(name for name in everything() if name in names)


def _shop(home: Path) -> Shop:
    return Shop(home, "", None)  # type: ignore[arg-type]  # only its landing folder is used


def _deliver(shop: Shop, entity: str, day: str, rows: Iterable[Mapping[str, Any]]) -> None:
    shop.deliver(entity, *rows, day=day)


def _orders(day: str, count: int = 24) -> list[dict[str, Any]]:
    return [
        line(
            f"{day}-{number}",
            f"p{number % 4 + 1}",
            day=day,
            customer_id=f"c{number % 3 + 1}",
            quantity=-1 if number % 8 == 7 else number % 3 + 1,
            updated_at=f"{day}T12:00:00Z",
        )
        for number in range(count)
    ]


def deliver_history(home: Path) -> None:
    """What is published before the fault."""
    shop = _shop(home)
    for day in HISTORY:
        orders = _orders(day)
        if day == HISTORY[0]:
            orders[5]["customer_id"] = "c9"  # known only later: an inferred member
        if day == HISTORY[1]:
            orders[6] |= {"customer_id": "c7", "product_id": "p7"}  # these two stay unknown
            orders[9]["quantity"] = "many"  # quarantined
        _deliver(shop, "orders", day, orders)
    stamps = {"updated_at": "2024-12-28T01:00:00Z", "is_deleted": "false"}
    _deliver(shop, "customers", HISTORY[0], [customer(f"c{n}") | stamps for n in (1, 2, 3, 4)])
    _deliver(shop, "products", HISTORY[0], [product(f"p{n}") | stamps for n in (1, 2, 3, 4)])
    stamps["updated_at"] = "2024-12-29T01:00:00Z"
    _deliver(shop, "customers", HISTORY[1], [customer("c3", country="FR") | stamps])
    _deliver(shop, "products", HISTORY[1], [product("p3", category="gifts") | stamps, product("p" * 201) | stamps])


def deliver_news(home: Path) -> None:
    """The deliveries under fault, beside those of history; those of 2024-12-29 are replaced."""
    deliver_history(home)
    shop = _shop(home)
    _replace_a_day(shop)
    early, late = "2024-12-29T06:00:00Z", "2024-12-31T09:00:00Z"
    living = {"is_deleted": "false"}
    _deliver(
        shop,
        "customers",
        NEW_YEARS_EVE,
        [
            customer("c1", segment="wholesale", updated_at=early) | living,  # late: its facts since then are re-keyed
            customer("c2", updated_at=late, is_deleted="true"),
            customer("c9", country="IT", updated_at=late) | living,  # upgrades the inferred member
            customer("c" * 201, updated_at=late) | living,  # quarantined
        ],
    )
    _deliver(
        shop,
        "customers",
        NEW_YEAR,
        [
            customer("c2", segment="retail", updated_at=f"{NEW_YEAR}T08:00:00Z") | living,  # comes back
            customer("c4", country="PL", updated_at=f"{NEW_YEAR}T08:00:00Z") | living,
            customer("c4", country="PT", updated_at=f"{NEW_YEAR}T09:00:00Z") | living,
        ],
    )
    _deliver(
        shop,
        "products",
        NEW_YEARS_EVE,
        [
            product("p1", cost="5.50", updated_at=early) | living,  # late: profits change
            product("p2", category="garden", updated_at=late) | living,
            product("p4", updated_at=late, is_deleted="true"),
        ],
    )
    _deliver(shop, "products", NEW_YEAR, [product("p2", cost="3.25", updated_at=f"{NEW_YEAR}T08:00:00Z") | living])
    _deliver(shop, "orders", NEW_YEARS_EVE, _corrections())
    orders = _orders(NEW_YEAR)
    orders[3] |= {"customer_id": "c8", "product_id": "p9"}
    orders.append(line(f"{NEW_YEARS_EVE}-1", day=NEW_YEARS_EVE, quantity=7, updated_at=f"{NEW_YEAR}T10:00:00Z"))
    _deliver(shop, "orders", NEW_YEAR, orders)


def _replace_a_day(shop: Shop) -> None:
    day, stamps = HISTORY[1], {"updated_at": "2024-12-29T02:00:00Z", "is_deleted": "false"}
    orders = _orders(day)
    orders[4]["unit_price"] = "11.50"
    orders[10]["quantity"] = "few"  # quarantined; number 9 is mended
    orders.append(dict(orders[0]))  # an exact copy
    _deliver(shop, "orders", day, [*orders[:3], *orders[4:]])  # a line is dropped, c7 and p7 are named no more
    _deliver(shop, "customers", day, [customer("c4", country="NL") | stamps])
    _deliver(shop, "products", day, [product("p3", category="toys") | stamps])


def _corrections() -> list[dict[str, Any]]:
    today, first, last = NEW_YEARS_EVE, HISTORY[0], HISTORY[2]
    now = {"updated_at": f"{today}T10:00:00Z"}
    return [
        *_orders(today),
        line(f"{first}-0", day=first, quantity=9) | now,
        line(f"{first}-1", day=first, quantity=8, updated_at="2024-12-20T10:00:00Z"),  # older than what stands
        line(f"{first}-2", day=first, status="cancelled") | now,
        line(f"{last}-0", day=NEW_YEAR) | now,  # its date moves across the year
        line(f"{last}-5", day=last, quantity=-2) | now,  # a sale becomes a return
        line("before-all", day="2023-06-01") | now,  # a year that has no partition yet
        line("return-of-next-year", day=NEW_YEAR, quantity=-1) | now,
        line("unknown-to-all", "p9", day=today, customer_id="c8") | now,  # inferred members
        line("nobody", day=today, customer_id="") | now,
        line("quarantined", day=today, quantity="some") | now,
    ]
