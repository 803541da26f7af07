"""HTTP APIs as sources, asked on a real server: windows, pages, credentials, and every way in which it may go wrong."""

import base64
import email.utils
import gzip
import itertools
import json
import logging
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from data_platform.errors import DeliveryRejected, SettingsError, SourceUnavailable
from data_platform.sources import rest, rest_client
from data_platform.sources.archive import Archive
from data_platform.sources.config import Source
from data_platform.sources.extraction import Extracted, window_of
from data_platform.sources.landing import find_deliveries, read_delivery
from data_platform.sources.rest import RestSource, extract, replay
from data_platform_tests.sources.rest_server import Api, Reply, Request, serve

DAY = date(2024, 1, 5)
WINDOW = window_of(DAY, "Europe/Berlin")
PLACE = "orders.rest"
SECRET = "geheim/und+lang="
BASIC = base64.b64encode(f"shop:{SECRET}".encode()).decode()
PAGED: dict[str, Any] = {"records": "data", "pages": {"page": "page"}}

Ask = Callable[..., Extracted]


@pytest.fixture
def api() -> Iterator[Api]:
    with serve(Api()) as api:
        api.records = [{"id": str(number)} for number in range(1, 6)]
        yield api


@pytest.fixture
def into(tmp_path: Path) -> Path:
    folder = tmp_path / "landing" / "orders" / DAY.isoformat()
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def ask(api: Api, into: Path, monkeypatch: pytest.MonkeyPatch) -> Ask:
    monkeypatch.setenv("SHOP_TOKEN", SECRET)
    monkeypatch.setenv("SHOP_USER", "shop")

    def asked(**more: Any) -> Extracted:
        config = RestSource.model_validate({"url": f"{api.url}/orders", "backoff": 0.01, "retries": 2, **more})
        return extract(config, WINDOW, into, columns=["id", "total"], place=PLACE)

    return asked


def rows(into: Path) -> pl.DataFrame:
    """What the raw asset reads of it."""
    delivery = find_deliveries(str(into.parent.parent), "orders", [DAY])[DAY]
    assert not isinstance(delivery, Exception)
    return read_delivery(delivery, Source(entity="orders"))


def ids(into: Path) -> list[str]:
    return rows(into)["id"].to_list()


# What is taken


@pytest.mark.parametrize(
    "pages",
    [
        {"page": "page"},
        {"page": "page", "size": {"per_page": 3}},
        {"offset": "offset", "size": {"per_page": 4}},
        {"cursor": "meta.next_cursor", "param": "cursor"},
        {"next": "meta.next"},
        {"link": "next"},
    ],
    ids=lambda pages: next(iter(pages)),
)
def test_every_way_of_paging_gives_all_records_in_order(ask: Ask, into: Path, pages: dict[str, Any]) -> None:
    found = ask(records="data", count="meta.total", pages=pages)
    assert ids(into) == ["1", "2", "3", "4", "5"]
    assert (found.rows, found.figures["records"], found.figures["retries"]) == (5, 5, 0)
    assert ask_again_by_replay(into, {"records": "data", "count": "meta.total", "pages": pages}) == ids(into)


def ask_again_by_replay(into: Path, config: dict[str, Any]) -> list[str]:
    again = into.parent.parent.parent / "again" / "orders" / DAY.isoformat()
    again.mkdir(parents=True)
    asked = RestSource.model_validate({"url": "http://nobody.example/orders", **config})
    replay(asked, into, again, columns=["id"], place=PLACE)
    return ids(again)


def test_without_a_count_pages_end_where_one_is_empty(ask: Ask, api: Api, into: Path) -> None:
    assert ask(**PAGED).rows is None
    assert ids(into) == ["1", "2", "3", "4", "5"]
    assert [request.params["page"] for request in api.requests] == ["1", "2", "3", "4"]


def test_the_window_is_asked_for_in_the_words_of_the_api(ask: Ask, api: Api, into: Path) -> None:
    api.records = [
        {"id": name, "updated_at": moment}
        for name, moment in [("old", "2024-01-04T22:59:59Z"), ("first", "2024-01-04T23:00:00Z"),
                             ("last", "2024-01-05T22:59:59Z"), ("next", "2024-01-05T23:00:00Z")]
    ]  # fmt: skip
    window = {"since": "updated_since", "before": "updated_before"}
    ask(**PAGED, window=window, params={"status": "any", "deleted": True})
    assert ids(into) == ["first", "last"]
    asked = api.requests[0].params
    assert (asked["updated_since"], asked["updated_before"]) == ("2024-01-04T23:00:00Z", "2024-01-05T23:00:00Z")
    assert (asked["status"], asked["deleted"]) == ("any", "true")


@pytest.mark.parametrize(
    ("form", "since"),
    [("epoch", "1704409200"), ("epoch_ms", "1704409200000"), ("%d.%m.%Y %H:%M", "05.01.2024 00:00"),
     ("%Y-%m-%d", "2024-01-05"), ("%Y%m%dT%H%M%SZ", "20240104T230000Z"), ("%Y-%m-%d %H:%M%z", "2024-01-04 23:00+0000")],
)  # fmt: skip
def test_moments_are_written_as_the_api_reads_them(ask: Ask, api: Api, form: str, since: str) -> None:
    ask(records="data", window={"since": "from", "format": form})
    assert api.requests[0].params["from"] == since


def test_without_a_window_pages_are_read_until_the_day_is_passed(ask: Ask, api: Api, into: Path) -> None:
    moments = ["2024-01-06T10:00:00Z", "2024-01-05T22:00:00Z", "2024-01-05T10:00:00+01:00", "2024-01-04T22:00:00Z",
               "2024-01-04T21:00:00Z", "2024-01-03T21:00:00Z", "2024-01-02T21:00:00Z"]  # fmt: skip
    api.records = [{"id": str(number), "changed": {"at": moment}} for number, moment in enumerate(moments)]
    assert ask(**PAGED, until="changed.at").rows is None
    assert ids(into) == ["1", "2"]
    assert len(api.requests) == 2


@pytest.mark.parametrize("moment", ["2024-01-05 10:00:00 UTC", "05.01.2024", None, 7.5e300, {"at": "2024-01-05"}])
def test_moments_that_cannot_be_read_do_not_make_all_of_history_a_day(ask: Ask, api: Api, moment: Any) -> None:
    api.records = [{"id": str(number), "changed": moment} for number in range(4)]
    with pytest.raises(DeliveryRejected, match=r"page 1 has no moment that can be read at `until: changed`, so that"):
        ask(**PAGED, until="changed")


def of_new_york(api: Api, into: Path, **more: Any) -> list[str]:
    config = RestSource.model_validate({"url": f"{api.url}/orders", "until": "changed", **PAGED, **more})
    extract(config, window_of(DAY, "America/New_York"), into, columns=["id"], place=PLACE)
    return ids(into)


@pytest.mark.parametrize(
    ("moments", "wanted"),
    [
        (["2024-01-06", "2024-01-05", "2024-01-04"], ["1"]),
        (["20240106", "20240105", "20240104"], ["1"]),
        ([20240106, 20240105, 20240104], ["1"]),
        (["2024-01-06T00:00:00", "2024-01-05T23:59:59", "2024-01-05T00:00:00", "2024-01-04T23:59:59"], ["1", "2"]),
        (["1704517200", "1704517199", "1704430800", "1704430799"], ["1", "2"]),
        (["1704517200000", "1704517199000", "1704430800000", "1704430799000"], ["1", "2"]),
    ],
)
def test_dates_and_moments_without_a_zone_are_of_the_business_day(
    api: Api, into: Path, moments: list[Any], wanted: list[str]
) -> None:
    api.records = [{"id": str(number), "changed": moment} for number, moment in enumerate(moments)]
    assert of_new_york(api, into) == wanted
    assert ask_again_by_replay(into, {**PAGED, "until": "changed"}) == wanted


def test_moments_without_a_zone_are_of_the_zone_that_is_named(api: Api, into: Path) -> None:
    moments = ["2024-01-06T05:00:00", "2024-01-06T04:59:59", "2024-01-05T05:00:00", "2024-01-05T04:59:59"]
    api.records = [{"id": str(number), "changed": moment} for number, moment in enumerate(moments)]
    assert of_new_york(api, into, timezone="UTC") == ["1", "2"]


@pytest.mark.parametrize(
    ("zone", "more", "asked"),
    [
        ("Europe/Berlin", {}, ("2024-01-05", "2024-01-06")),
        ("America/New_York", {}, ("2024-01-05", "2024-01-06")),
        ("Asia/Kolkata", {}, ("2024-01-05", "2024-01-06")),
        ("Asia/Kolkata", {"timezone": "UTC"}, ("2024-01-04", "2024-01-05")),
    ],
)
def test_dates_are_asked_for_by_the_business_day(
    api: Api, into: Path, zone: str, more: dict[str, Any], asked: tuple[str, str]
) -> None:
    window = {"since": "from", "before": "to", "format": "%Y-%m-%d"}
    config = RestSource.model_validate({"url": f"{api.url}/orders", "records": "data", "window": window, **more})
    extract(config, window_of(DAY, zone), into, columns=["id"], place=PLACE)
    assert (api.requests[0].params["from"], api.requests[0].params["to"]) == asked


def test_pages_beyond_ten_thousand_stay_in_order(
    ask: Ask, api: Api, into: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rest, "_WIDTH", "01")  # as if ten pages were ten thousand
    api.records = [{"id": str(number)} for number in range(12)]
    ask(**PAGED, params={"per_page": 1})
    monkeypatch.undo()
    names = sorted(path.name for path in (into / rest.RESPONSES).glob("*.zst"))
    assert names[:3] == ["1.json.zst", "10.json.zst", "11.json.zst"]  # an archive of before
    again = tmp_path / "landing" / "again" / DAY.isoformat()
    again.mkdir(parents=True)
    replay(RestSource.model_validate({"url": api.url, **PAGED}), into, again, columns=["id"], place=PLACE)
    assert [path.name for path in sorted(again.glob("*.zst"))][9:11] == ["00000010.jsonl.zst", "00000011.jsonl.zst"]
    assert read_ids(again) == [str(number) for number in range(12)]


def read_ids(folder: Path) -> list[str]:
    delivery = find_deliveries(str(folder.parent.parent), folder.parent.name, [DAY])[DAY]
    assert not isinstance(delivery, Exception)
    return read_delivery(delivery, Source(entity="orders"))["id"].to_list()


def test_a_replay_takes_what_another_kind_archived_as_it_is(ask: Ask, api: Api, tmp_path: Path) -> None:
    def of_a_database(into: Path) -> Extracted:
        pl.DataFrame({"id": ["a", "b"]}).write_parquet(into / "0001.parquet")
        return Extracted(2, {"rows": 2})

    archive = Archive(tmp_path / "archive", "orders")
    archive.take(DAY, "first", of_a_database)
    config = RestSource.model_validate({"url": api.url, **PAGED})
    archive.take(DAY, "second", lambda into: replay(config, archive.folder(DAY), into, columns=["id"], place=PLACE))
    said = archive.said(DAY)
    assert said is not None
    assert (said.run_id, said.rows, said.figures) == ("second", 2, {"rows": 2})
    assert ids(archive.folder(DAY)) == ["a", "b"]


def test_fields_within_fields_have_dotted_names_and_numbers_are_as_written(ask: Ask, api: Api, into: Path) -> None:
    api.answer = lambda _: Reply(
        '[{"id": 7, "total": 19.90, "big": 12345678901234567890.10, "customer": {"id": "c1", "address": '
        '{"city": "Köln"}}, "paid": true, "note": null, "tags": ["a", 1.50]}]'
    )
    ask()
    assert rows(into).drop("_file", "_row").row(0, named=True) == {
        "id": "7", "total": "19.90", "big": "12345678901234567890.10", "customer.id": "c1",
        "customer.address.city": "Köln", "paid": "true", "note": None, "tags": '["a", 1.50]',
    }  # fmt: skip


def test_each_line_of_a_record_is_a_row_beside_the_record_s_own_fields(ask: Ask, api: Api, into: Path) -> None:
    api.records = [
        {"id": "o1", "items": [{"sku": "a", "price": {"net": 1}}, {"sku": "b"}]},
        {"id": "o2", "status": "cancelled", "items": []},
    ]
    assert ask(**PAGED, lines="items", count="meta.total").rows is None
    found = rows(into)
    assert found.select("id", "items.sku", "items.price.net").rows() == [
        ("o1", "a", "1"), ("o1", "b", None), ("o2", None, None)
    ]  # fmt: skip


def test_no_records_are_an_empty_delivery_and_no_absent_one(ask: Ask, api: Api, into: Path) -> None:
    api.records = []
    assert ask(**PAGED, count="meta.total").rows == 0
    assert (rows(into).height, rows(into).columns[:2]) == (0, ["id", "total"])
    api.answer = lambda _: Reply("[]")


def test_responses_are_archived_as_they_came_and_read_anew_by_another_mapping(ask: Ask, api: Api, into: Path) -> None:
    api.answer = lambda _: Reply('{"data": {"orders": [{"id": 1.0}], "others": [{"id": "x"}]}}')
    ask(records="data.orders")
    assert ids(into) == ["1.0"]
    assert ask_again_by_replay(into, {"records": "data.others"}) == ["x"]


def test_a_limit_of_requests_is_kept(ask: Ask, api: Api) -> None:
    moments: list[float] = []

    def answer(request: Request) -> Reply:
        moments.append(time.monotonic())
        return api.paged(request)

    api.answer = answer
    ask(**PAGED, requests_per_second=50)
    assert len(moments) == 4
    # No less than is asked for: that holds on the slowest machine.
    assert min(later - earlier for earlier, later in itertools.pairwise(moments)) > 0.01


# Credentials


@pytest.mark.parametrize(
    ("auth", "header"),
    [
        ({"bearer": "SHOP_TOKEN"}, ("authorization", f"Bearer {SECRET}")),
        ({"api_key": "SHOP_TOKEN", "header": "X-Api-Key"}, ("x-api-key", SECRET)),
        ({"basic": {"user": "SHOP_USER", "password": "SHOP_TOKEN"}}, ("authorization", f"Basic {BASIC}")),
    ],
)  # fmt: skip
def test_credentials_go_with_every_request(ask: Ask, api: Api, auth: dict[str, Any], header: tuple[str, str]) -> None:
    ask(**PAGED, auth=auth)
    assert len(api.requests) > 1
    assert {request.headers.get(header[0]) for request in api.requests} == {header[1]}


def test_a_key_may_go_into_the_address(ask: Ask, api: Api) -> None:
    ask(**PAGED, auth={"api_key": "SHOP_TOKEN", "param": "key"})
    assert {request.params["key"] for request in api.requests} == {SECRET}


def test_without_credentials_none_are_sent_also_none_of_a_netrc(
    ask: Ask, api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login someone password else\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    ask(**PAGED)
    assert all("authorization" not in request.headers for request in api.requests)


OAUTH: dict[str, Any] = {"client_id": "SHOP_USER", "client_secret": "SHOP_TOKEN", "scope": "orders"}


def with_tokens(api: Api, *, good_for: int) -> list[str]:
    """The API wants a token, and one is good for so many requests."""
    tokens: list[str] = []
    left = 0

    def answer(request: Request) -> Reply:
        nonlocal left
        if request.path == "/token":
            assert request.form == {"grant_type": "client_credentials", "client_id": "shop", "client_secret": SECRET,
                                    "scope": "orders"}  # fmt: skip
            assert "authorization" not in request.headers
            tokens.append(f"token-{len(tokens)}")
            left = good_for
            return Reply({"access_token": tokens[-1], "expires_in": 3600})
        left -= 1
        if left < 0 or request.headers.get("authorization") != f"Bearer {tokens[-1]}":
            return Reply(status=401)
        return api.paged(request)

    api.answer = answer
    return tokens


def test_a_token_that_expires_in_the_middle_is_renewed(ask: Ask, api: Api, into: Path) -> None:
    tokens = with_tokens(api, good_for=2)
    ask(**PAGED, auth={"oauth2": {**OAUTH, "token_url": f"{api.url}/token"}})
    assert ids(into) == ["1", "2", "3", "4", "5"]
    assert len(tokens) == 2


def test_a_fresh_token_that_is_refused_is_told(ask: Ask, api: Api, into: Path) -> None:
    with_tokens(api, good_for=0)
    with pytest.raises(SettingsError, match=r"^orders.rest.auth: 127.0.0.1:\d+ does not accept the credentials"):
        ask(**PAGED, auth={"oauth2": {**OAUTH, "token_url": f"{api.url}/token"}})


def test_an_address_of_tokens_that_gives_none_is_told(ask: Ask, api: Api) -> None:
    api.answer = lambda _: Reply("<html>login</html>")
    with pytest.raises(SettingsError, match="token_url gives no token"):
        ask(**PAGED, auth={"oauth2": {**OAUTH, "token_url": f"{api.url}/token"}})


def test_a_refused_token_of_the_environment_is_told(ask: Ask, api: Api) -> None:
    api.instead = [None, Reply(status=401)]
    with pytest.raises(SettingsError, match="does not accept the credentials: correct the variables"):
        ask(**PAGED, auth={"bearer": "SHOP_TOKEN"})


@pytest.mark.parametrize("auth", [{"bearer": "SHOP_TOKEN"}, {"api_key": "SHOP_TOKEN", "header": "X-Key"}])
@pytest.mark.parametrize("by", ["redirect", "next", "link"])
def test_another_host_gets_no_request_and_no_credentials(ask: Ask, api: Api, auth: dict[str, Any], by: str) -> None:
    with serve(Api()) as other:
        pages: dict[str, Any] = {"next": "next"} if by == "next" else {"link": "next"}
        api.answer = lambda _: {
            "redirect": Reply(status=302, headers={"Location": f"{other.url}/orders"}),
            "next": Reply({"data": [{"id": "1"}], "next": f"{other.url}/orders?page=2"}),
            "link": Reply({"data": [{"id": "1"}]}, headers={"Link": f'<{other.url}/orders>; rel="next"'}),
        }[by]
        port = other.url.rpartition(":")[2]
        with pytest.raises(SettingsError, match=rf"leads on to another host, 127.0.0.1:{port}, which is not asked"):
            ask(records="data", pages=pages, auth=auth)
        assert other.requests == []


def test_a_redirect_within_the_host_is_followed_with_credentials(ask: Ask, api: Api, into: Path) -> None:
    api.instead = [Reply(status=307, headers={"Location": "/v2/orders?page=1"})]
    ask(**PAGED, auth={"bearer": "SHOP_TOKEN"})
    assert ids(into) == ["1", "2", "3", "4", "5"]
    assert [request.path for request in api.requests[:2]] == ["/orders", "/v2/orders"]
    api.answer = lambda _: Reply(status=302, headers={"Location": "/orders"})
    with pytest.raises(SettingsError, match="is redirected more than 5 times"):
        ask_in_new_folder(ask, into)


def ask_in_new_folder(ask: Ask, into: Path) -> Extracted:
    for path in sorted(into.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    return ask(**PAGED)


# What may pass by itself is tried again


@pytest.mark.parametrize(
    "failure",
    [Reply(status=500), Reply(status=507), Reply(status=520), Reply(status=503), Reply(status=429),
     Reply(status=429, headers={"Retry-After": "0"}),
     Reply({"data": [{"id": "x"}] * 99}, cut=20), Reply(cut=0, body="x" * 50), Reply(slow=0.6)],
    ids=["500", "507", "520", "503", "429", "429-after", "cut", "nothing", "slow"],
)  # fmt: skip
def test_a_failure_in_the_middle_is_tried_again_and_costs_nothing(
    ask: Ask, api: Api, into: Path, failure: Reply
) -> None:
    api.instead = [None, failure, failure, None]
    found = ask(**PAGED, count="meta.total", timeout=0.3)
    assert ids(into) == ["1", "2", "3", "4", "5"]
    assert found.figures["retries"] == 2


def test_a_limit_that_says_until_when_is_waited_for(ask: Ask, api: Api, into: Path) -> None:
    until = email.utils.formatdate(time.time() + 1.5, usegmt=True)
    api.instead = [Reply(status=429, headers={"Retry-After": until})]
    ask(**PAGED)
    assert time.time() >= email.utils.parsedate_to_datetime(until).timestamp()


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (Reply(status=500), "answers 500"),
        (Reply({"data": [{"id": "x"}] * 99}, cut=20), "cannot be reached, or broke the connection off"),
        (Reply(slow=0.6), "did not answer within 0.3 s"),
        (Reply(status=429, headers={"Retry-After": "3600"}), "answers 429, and is to be asked again in 3600 s"),
    ],
    ids=["500", "cut", "slow", "an hour"],
)
def test_a_failure_that_stays_may_be_tried_again_later(ask: Ask, api: Api, failure: Reply, said: str) -> None:
    api.instead = [None, *[failure] * 9]
    with pytest.raises(SourceUnavailable, match=rf"^orders.rest: 127.0.0.1:\d+ {said}\. Nothing was taken"):
        ask(**PAGED, timeout=0.3)


def test_a_server_that_drips_is_not_waited_for(ask: Ask, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rest_client, "_CHUNK", 10)
    monkeypatch.setattr(time, "monotonic", lambda counter=iter(range(0, 10**6, 40)): float(next(counter)))
    with pytest.raises(SourceUnavailable, match="took longer than 60 s for a page"):
        ask(**PAGED)


@pytest.mark.parametrize("packed", [False, True])
def test_a_body_that_drips_takes_no_longer_than_the_timeout(ask: Ask, api: Api, packed: bool) -> None:
    body = b"[" + b" " * 60 + b"]"
    headers = {"Content-Encoding": "gzip"} if packed else {}
    api.answer = lambda _: Reply(gzip.compress(body) if packed else body, drip=0.1, headers=headers)
    started = time.monotonic()
    with pytest.raises(SourceUnavailable, match=r"took longer than 0.3 s for a page"):
        ask(timeout=0.3, retries=0)
    assert time.monotonic() - started < 2


def test_what_is_packed_is_read_whole(ask: Ask, api: Api, into: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rest_client, "_CHUNK", 1000)
    wanted = [str(number) for number in range(20_000)]
    body = gzip.compress(json.dumps([{"id": name} for name in wanted]).encode())
    api.answer = lambda _: Reply(body, headers={"Content-Encoding": "gzip"})
    ask()
    assert ids(into) == wanted
    api.answer = lambda _: Reply(b"no gzip", headers={"Content-Encoding": "gzip"})
    with pytest.raises(SourceUnavailable, match=r"the request to 127.0.0.1:\d+ failed \(DecodeError\)"):
        ask_in_new_folder(ask, into)


def test_nobody_there_is_told(ask: Ask) -> None:
    with pytest.raises(SourceUnavailable, match=r"^orders.rest: 127.0.0.1:9 cannot be reached"):
        ask(url="http://127.0.0.1:9/orders")


# What will not pass


def own_certificate(folder: Path) -> Path:
    """A certificate of 127.0.0.1 that nobody else has signed, with its key."""
    certificate = folder / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", certificate, "-out", folder / "c",
         "-days", "1", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    certificate.write_text(certificate.read_text() + (folder / "c").read_text())
    return certificate


def test_a_certificate_that_nobody_knows_is_refused(ask: Ask, tmp_path: Path) -> None:
    with serve(Api(), own_certificate(tmp_path)) as api:
        with pytest.raises(SettingsError, match=r"the certificate of 127.0.0.1:\d+ cannot be trusted"):
            ask(url=f"{api.url}/orders")
        assert api.requests == []


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (Reply("<html>"), "page 2 is no JSON"),
        (Reply('{"data": [{"id": '), "page 2 is no JSON"),
        (Reply({"error": "x"}), "page 2 has no list of records at `records: data`"),
        (Reply({"data": {"id": 1}}), "page 2 has no list of records"),
        (Reply({"data": [1, 2]}), "page 2 has no list of records"),
    ],
)
def test_a_page_that_is_none_rejects_the_delivery(ask: Ask, api: Api, reply: Reply, said: str) -> None:
    api.instead = [None, reply]
    with pytest.raises(DeliveryRejected, match=rf"^orders.rest: {said}"):
        ask(**PAGED)


@pytest.mark.parametrize("target", ["http://[x", "http://127.0.0.1:99999/orders", "mailto:shop@example.com"])
@pytest.mark.parametrize("by", ["redirect", "next", "link"])
def test_what_leads_on_to_no_address_is_told(ask: Ask, api: Api, target: str, by: str) -> None:
    api.answer = lambda _: {
        "redirect": Reply(status=302, headers={"Location": target}),
        "next": Reply({"data": [{"id": "1"}], "next": target}),
        "link": Reply({"data": [{"id": "1"}]}, headers={"Link": f'<{target}>; rel="next"'}),
    }[by]
    error, said = {
        "redirect": (SettingsError, r"^orders.rest.url is redirected to what is no address: correct it"),
    }.get(by, (DeliveryRejected, r"^orders.rest: page 1 leads on to what is no address: mend `pages`"))
    with pytest.raises(error, match=said):
        ask(records="data", pages={"link": "next"} if by == "link" else {"next": "next"})


@pytest.mark.parametrize("found", [{"href": "/orders"}, ["x"], True])
def test_a_next_page_that_is_no_text_is_told(ask: Ask, api: Api, found: Any) -> None:
    api.answer = lambda _: Reply({"data": [{"id": "1"}], "next": found})
    with pytest.raises(DeliveryRejected, match="page 1 has no text and no number at `next`, by which `pages` goes on"):
        ask(records="data", pages={"next": "next"})


@pytest.mark.parametrize("status", [501, 505, 400, 403, 404, 410])
def test_a_refusal_is_told_with_its_path_and_without_its_query(ask: Ask, api: Api, status: int) -> None:
    api.instead = [Reply({"secret": "of a person"}, status=status)]
    with pytest.raises(
        SettingsError, match=rf"^orders.rest: 127.0.0.1:\d+ answers {status} to /orders: correct"
    ) as told:
        ask(**PAGED, auth={"api_key": "SHOP_TOKEN", "param": "key"})
    assert "person" not in str(told.value)
    assert len(api.requests) == 1


def test_a_page_that_comes_twice_rejects_the_delivery(ask: Ask, api: Api) -> None:
    api.instead = [None, Reply({"data": [{"id": "1"}, {"id": "2"}], "meta": {"total": 5}})]
    with pytest.raises(DeliveryRejected, match=r"page 2 is page 1 once more: the API does not go on"):
        ask(**PAGED, count="meta.total")


def test_an_api_that_goes_in_circles_is_found(ask: Ask, api: Api) -> None:
    numbers = iter(range(99))
    api.answer = lambda _: Reply({"data": [{"id": next(numbers)}], "meta": {"next_cursor": "same"}})
    with pytest.raises(DeliveryRejected, match="page 2 leads to one that was read already"):
        ask(records="data", pages={"cursor": "meta.next_cursor", "param": "cursor"})


def test_records_that_change_while_they_are_read_are_found_by_the_count(ask: Ask, api: Api) -> None:
    def leaving(request: Request) -> Reply:
        if request.params["offset"] == "2":
            api.records.pop(0)  # what was on the second page is on the first now, which was read
        return api.paged(request)

    api.answer = leaving
    api.records.append({"id": "6"})
    with pytest.raises(DeliveryRejected, match=r"^orders.rest counts 5 records on page 2 and 6 on the page before"):
        ask(records="data", pages={"offset": "offset"}, count="meta.total")


@pytest.mark.parametrize("gone", [0, 1])
def test_a_page_that_was_skipped_is_found_by_the_count(ask: Ask, api: Api, gone: int) -> None:
    def skipping(request: Request) -> Reply:
        reply = api.paged(request)
        if request.params["page"] == "2":
            reply.body["data"] = reply.body["data"][:gone] or [{"id": "other"}]
        return reply

    api.answer = skipping
    with pytest.raises(DeliveryRejected, match=r"^orders.rest counts 5 records and gave 4 on \d pages"):
        ask(**PAGED, count="meta.total")


def test_a_count_that_is_none_is_told(ask: Ask) -> None:
    with pytest.raises(DeliveryRejected, match=r"page 1 has no number at `count: meta.sum`: correct it"):
        ask(**PAGED, count="meta.sum")


def test_a_huge_page_is_refused_while_it_streams(ask: Ask, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rest_client, "MAX_PAGE_BYTES", 2 * 1024 * 1024)
    api.answer = lambda _: Reply(b"[" + b" " * 4 * 1024 * 1024 + b"]")
    with pytest.raises(DeliveryRejected, match=r"a page is larger than 2 MB: ask for fewer records a page"):
        ask()


def test_secrets_are_in_no_error_no_log_and_no_file(
    ask: Ask, api: Api, into: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for auth in ({"bearer": "SHOP_TOKEN"}, {"api_key": "SHOP_TOKEN", "param": "key"}):
        for failing in (
            [],
            [Reply(status=500)] * 9,
            [Reply(status=401)] * 9,
            [Reply(cut=0, body="x")] * 9,
            [Reply("x")],
        ):
            api.instead = [*failing]
            told = ""
            try:
                ask(**PAGED, auth=auth)
            except (DeliveryRejected, SettingsError, SourceUnavailable) as error:
                told = f"{error} {error.__cause__}"
            held = b"".join(path.read_bytes() for path in into.rglob("*") if path.is_file())
            for text in (told, caplog.text, held.decode(errors="replace")):
                assert "geheim" not in text
            for path in sorted(into.rglob("*"), reverse=True):
                path.rmdir() if path.is_dir() else path.unlink()


# Nothing half-delivered is ever taken


Break = Callable[[Api], None]


def instead(*replies: Reply | None) -> Break:
    def planned(api: Api) -> None:
        api.instead = [None, *replies]

    return planned


def skipping_a_page(api: Api) -> None:
    def answer(request: Request) -> Reply:
        return api.paged(
            Request(request.path, {**request.params, "page": str(int(request.params["page"]) * 2 - 1)}, {})
        )

    api.answer = answer


@pytest.mark.parametrize(
    ("broken", "error"),
    [
        (instead(*[Reply(status=429)] * 9), SourceUnavailable),
        (instead(*[Reply(status=429, headers={"Retry-After": "3600"})] * 9), SourceUnavailable),
        (instead(*[Reply(status=500)] * 9), SourceUnavailable),
        (instead(*[Reply({"data": [{"id": "x"}] * 99}, cut=20)] * 9), SourceUnavailable),
        (instead(*[Reply(slow=0.6)] * 9), SourceUnavailable),
        (instead(Reply({"data": [{"id": "11"}, {"id": "12"}], "meta": {"total": 5}})), DeliveryRejected),
        (skipping_a_page, DeliveryRejected),
        (instead(Reply('{"data": [{"id": ')), DeliveryRejected),
        (instead(*[Reply(status=401)] * 9), SettingsError),
        (instead(Reply(status=302, headers={"Location": "http://127.0.0.1:9/orders"})), SettingsError),
        (instead(Reply(b"[" + b" " * 3 * 1024 * 1024 + b"]")), DeliveryRejected),
    ],
    ids=["429", "429 for an hour", "500", "cut", "slow", "twice", "skipped", "no JSON", "token", "redirect", "huge"],
)
def test_what_fails_in_the_middle_leaves_what_stood(
    api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: Break, error: type[Exception]
) -> None:
    monkeypatch.setenv("SHOP_TOKEN", SECRET)
    monkeypatch.setattr(rest_client, "MAX_PAGE_BYTES", 2 * 1024 * 1024)
    config = RestSource.model_validate({
        "url": f"{api.url}/orders", "backoff": 0.01, "retries": 2, "timeout": 0.3, "count": "meta.total",
        "auth": {"bearer": "SHOP_TOKEN"}, **PAGED,
    })  # fmt: skip
    archive = Archive(tmp_path / "archive", "orders")

    def take(run_id: str) -> None:
        archive.take(DAY, run_id, lambda into: extract(config, WINDOW, into, columns=["id"], place=PLACE))

    take("first")
    stood = {path: path.read_bytes() for path in archive.root.rglob("*") if path.is_file()}
    api.records = [{"id": str(number)} for number in range(11, 16)]
    broken(api)
    with pytest.raises(error):
        take("second")
    assert {path: path.read_bytes() for path in archive.root.rglob("*") if path.is_file()} == stood
    assert len(api.requests) > 4  # of the second, at least a page was there
    api.instead, api.answer = [], api.paged
    take("third")
    assert ids(archive.folder(DAY)) == ["11", "12", "13", "14", "15"]


def test_a_certificate_that_is_no_longer_trusted_leaves_what_stood(api: Api, tmp_path: Path) -> None:
    archive = Archive(tmp_path / "archive", "orders")

    def take(url: str) -> None:
        config = RestSource.model_validate({"url": f"{url}/orders", **PAGED})
        archive.take(DAY, url, lambda into: extract(config, WINDOW, into, columns=["id"], place=PLACE))

    take(api.url)
    with serve(Api(), own_certificate(tmp_path)) as secured, pytest.raises(SettingsError, match="cannot be trusted"):
        take(secured.url)
    assert ids(archive.folder(DAY)) == ["1", "2", "3", "4", "5"]


# What is declared


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        ({"url": "shop.example/orders"}, "is no address of an API: write https://HOST/PATH"),
        ({"url": "https://me:geheim@shop.example/"}, "it bears a password: take it out"),
        ({"pages": {}}, "exactly one of page, offset, cursor, next and link"),
        ({"pages": {"page": "p", "offset": "o"}}, "exactly one of page, offset, cursor, next and link"),
        ({"pages": {"cursor": "next"}}, "`cursor` .* and `param` .* go together"),
        ({"auth": {}}, "exactly one of bearer, api_key, basic and oauth2"),
        ({"auth": {"api_key": "K"}}, "`api_key` goes with `header` or with `param`"),
        ({"window": {"since": "s"}, "until": "changed"}, "`window` and `until`: keep the one"),
        ({"window": {"since": "s", "format": "unix"}}, "is no format: use iso, epoch, epoch_ms"),
    ],
)
def test_what_cannot_be_meant_is_refused(declared: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        RestSource.model_validate({"url": "https://shop.example/orders", **declared})


def test_an_api_is_windowed_where_it_can_be_asked_for_a_past_day() -> None:
    url = "https://shop.example/orders"
    assert RestSource.model_validate({"url": url, "until": "changed", "pages": {"page": "page"}}).is_windowed
    assert RestSource.model_validate({"url": url, "window": {"since": "s"}}).is_windowed
    assert not RestSource(url=url).is_windowed
    assert json.dumps(RestSource.model_json_schema())
