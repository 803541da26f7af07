"""Raw beyond its age: what is loaded goes, what waits or was rejected stays, and whoever misses it is told."""

from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import pytest

from data_platform.assets.raw import ACCEPTED as READ
from data_platform.errors import PlatformError, SourceUnavailable
from data_platform.lake import DELETED, Lake
from data_platform.quality.completeness import not_run
from data_platform.quality.quarantine import standing
from data_platform.retention.config import Raw
from data_platform.retention.done import Done
from data_platform.retention.raw import GIVEN_UP, beyond_age
from data_platform_tests.shop import Shop, checks, failures, open_shop, product

LOADED, WAITING, AGAIN, REJECTED, UNPUBLISHED, YOUNG = (f"2024-01-0{n}" for n in range(1, 7))
TODAY = date(2024, 1, 6) + timedelta(days=7)
PUBLISH, STAGE = "raw_products,stg_products,dim_product", "raw_products,stg_products"


@pytest.fixture
def shop(tmp_path: Path, warehouse_url: str) -> Iterator[Shop]:
    """Deliveries of every kind, each named by its day; the landing folder is empty again."""
    with open_shop(tmp_path, warehouse_url) as shop:
        for day in (LOADED, AGAIN, REJECTED, YOUNG):
            shop.deliver("products", product(day), product("p2"), day=day)
        shop.deliver("products", product("p1"), product("p3", cost="?"), day=WAITING)
        assert shop.run(PUBLISH, LOADED, REJECTED).success
        assert shop.run(PUBLISH, YOUNG).success
        shop.deliver("products", *(product(f"p{n}", cost="?") for n in range(12)), day=REJECTED)
        assert not shop.run(PUBLISH, REJECTED).success
        shop.deliver("products", product("p9"), day=UNPUBLISHED)
        assert shop.run(STAGE, UNPUBLISHED).success
        for day in (LOADED, WAITING, AGAIN, REJECTED, UNPUBLISHED, YOUNG):
            shop.landing("products", day).unlink()
        (tmp_path / "cold").mkdir()
        yield shop


def clean(shop: Shop, *, dry_run: bool = False, **rule: object) -> list[Done]:
    chosen = Raw.model_validate({"keep_days": 7} | rule)
    return list(beyond_age(shop.warehouse, shop.lake, chosen, TODAY, dry_run=dry_run))


def moved(shop: Shop) -> dict[str, str]:
    return {day.isoformat(): stamp.moved for day, stamp in shop.lake.stamps("raw_products").items() if stamp.moved}


def test_what_is_loaded_moves_and_is_still_staged_from_the_archive(shop: Shop) -> None:
    cold = str(shop.home / "cold")
    before = shop.lake.read("raw_products", date.fromisoformat(LOADED))
    told = clean(shop, archive=cold, dry_run=True)
    assert moved(shop) == {}
    assert clean(shop, archive=cold) == told
    assert moved(shop) == dict.fromkeys([LOADED, AGAIN], cold)
    assert [(one.files, one.rows, one.given_up) for one in told] == [(2, 4, "")]
    assert shop.lake.read("raw_products", date.fromisoformat(LOADED)).equals(before)
    assert clean(shop, archive=cold) == []
    assert clean(shop, archive=cold, with_quarantine=True)[0].days == (date.fromisoformat(WAITING),)
    again = shop.run(PUBLISH, LOADED, AGAIN)
    assert again.success
    assert all(check.passed for (_, name), check in checks(again).items() if name in (READ, "rows_balance"))
    (shop.home / "cold").rename(shop.home / "away")
    assert "cold" in failures(shop.run("stg_products", LOADED))["stg_products"]
    with pytest.raises(SourceUnavailable, match="is no folder: mount its disk"):
        clean(shop, archive=cold)


def test_what_is_deleted_is_told_before_and_missed_in_a_sentence(shop: Shop) -> None:
    told = clean(shop, delete=True, dry_run=True)
    assert told[0].in_words(dry_run=True).endswith(f"would be deleted. {GIVEN_UP}")
    assert clean(shop, delete=True) == told
    assert moved(shop) == dict.fromkeys([LOADED, AGAIN], DELETED)
    assert clean(shop, delete=True) == []
    # The day was there and is known: nobody asks for it again.
    days = [date.fromisoformat(day) for day in (LOADED, AGAIN)]
    assert not_run(shop.lake.days("raw_products"), days) == []
    assert set(days).isdisjoint(standing(shop.lake, ["stg_products"])["stg_products"])
    stands = shop.run("raw_products", LOADED)
    assert stands.success
    assert checks(stands)["raw_products", "rows_balance"].passed
    missed = failures(shop.run("stg_products", LOADED, AGAIN))["stg_products"]
    assert "The rows of raw_products 2024-01-01 (and 1 more days) were deleted" in missed
    assert "have the source deliver them again" in missed
    with pytest.raises(PlatformError, match="were deleted"):
        shop.lake.read("raw_products", days[0])
    # The same file again, whose stamp is the one that stands.
    shop.deliver("products", product(LOADED), product("p2"), day=LOADED)
    assert shop.run(PUBLISH, LOADED).success
    assert moved(shop) == {AGAIN: DELETED}
    assert shop.lake.read("raw_products", days[0]).height == 2


def test_a_delivery_that_came_after_its_day_was_staged_stays(shop: Shop) -> None:
    shop.deliver("products", product("other"), product("p2"), day=LOADED)
    assert shop.run("raw_products", LOADED).success
    clean(shop, delete=True)
    assert moved(shop) == {AGAIN: DELETED}


def test_a_delivery_that_comes_while_it_is_cleaned_up_is_not_lost(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    point = Lake.point

    def late(lake: Lake, *arguments: object) -> bool:
        monkeypatch.setattr(Lake, "point", point)
        shop.deliver("products", product("other"), day=LOADED)
        assert shop.run("raw_products", LOADED).success
        return point(lake, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Lake, "point", late)
    clean(shop, delete=True)
    assert moved(shop) == {AGAIN: DELETED}
    assert shop.lake.read("raw_products", date.fromisoformat(LOADED)).height == 1
