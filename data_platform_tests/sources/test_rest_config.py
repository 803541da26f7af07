"""What sources.yaml may say of an API, and of the variables that hold secrets: mistakes are told, values are not."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from data_platform.errors import SettingsError
from data_platform.sources.config import Source, load_sources
from data_platform.sources.extraction import KindModel, secret
from data_platform.sources.files_config import Complete, FilesSource
from data_platform.sources.lakehouse import DeltaSource, IcebergSource
from data_platform.sources.rest import RestSource, extract
from data_platform.sources.schema import json_schema
from data_platform.sources.sql import SqlSource
from data_platform_tests.sources.rest_server import Api, Reply, serve
from data_platform_tests.sources.test_rest import PAGED, PLACE, WINDOW

URL = "https://shop.example/orders"
# As people paste them: a token, a connection string in words, one as URL, a key with a line break.
PASTED = ["sk-live-geheim", "host=h password=geheim", "postgresql://u:geheim@h/d", "geheim\n", "geheim!", "1geheim", ""]


def declared_with(variable: str) -> dict[str, tuple[type[KindModel], dict[str, Any]]]:
    """Every key that names a variable, with `variable` in it."""
    oauth = {"token_url": "https://shop.example/token", "client_id": "A", "client_secret": "B"}
    credentials = {"key": "A", "secret": "B"}
    return {
        "bearer": (RestSource, {"url": URL, "auth": {"bearer": variable}}),
        "api_key": (RestSource, {"url": URL, "auth": {"api_key": variable, "header": "X-Key"}}),
        "user": (RestSource, {"url": URL, "auth": {"basic": {"user": variable, "password": "B"}}}),
        "password": (RestSource, {"url": URL, "auth": {"basic": {"user": "A", "password": variable}}}),
        "client_id": (RestSource, {"url": URL, "auth": {"oauth2": {**oauth, "client_id": variable}}}),
        "client_secret": (RestSource, {"url": URL, "auth": {"oauth2": {**oauth, "client_secret": variable}}}),
        "key": (FilesSource, {"url": "s3://b/{date}", "credentials": {**credentials, "key": variable}}),
        "secret": (FilesSource, {"url": "s3://b/{date}", "credentials": {**credentials, "secret": variable}}),
        "sql": (SqlSource, {"url": variable, "table": "t"}),
        "delta": (DeltaSource, {"url": "s3://b/t", "secrets": {"AWS_SECRET_ACCESS_KEY": variable}}),
        "iceberg": (IcebergSource, {"table": "a.b", "secrets": {"s3.secret-access-key": variable}}),
    }


KIND_OF = {RestSource: "rest", FilesSource: "files", SqlSource: "sql", DeltaSource: "delta", IcebergSource: "iceberg"}


@pytest.mark.parametrize("pasted", PASTED)
@pytest.mark.parametrize("key", declared_with(""))
def test_a_secret_in_place_of_a_variable_is_refused_and_not_shown(key: str, pasted: str, tmp_path: Path) -> None:
    model, declared = declared_with(pasted)[key]
    with pytest.raises(ValueError, match="must be the name of an environment variable") as told:
        model.model_validate(declared)
    with pytest.raises(ValueError, match="must be the name of an environment variable") as of_source:
        Source.model_validate({"entity": "orders", KIND_OF[model]: declared})
    path = tmp_path / "sources.yaml"
    path.write_text(json.dumps({"orders": {KIND_OF[model]: declared}}))
    with pytest.raises(
        SettingsError, match=rf"orders\.{KIND_OF[model]}\..* cannot be used: it must be the n"
    ) as of_file:
        load_sources(path)
    for error in (told, of_source, of_file):
        assert "geheim" not in str(error.value)


@pytest.mark.parametrize("key", declared_with(""))
def test_a_name_of_a_variable_is_taken(key: str) -> None:
    model, declared = declared_with("_Shop_Token2")[key]
    assert "_Shop_Token2" in model.model_validate(declared).model_dump_json()


def test_editors_know_what_a_variable_may_be_called() -> None:
    assert json_schema()["$defs"]["SqlSource"]["properties"]["url"]["pattern"] == "^[A-Za-z_][A-Za-z0-9_]*$"


def test_an_error_of_another_key_shows_no_secret_beside_it() -> None:
    for declared in ({"auth": {"bearer": "T", "basic": {"user": "geheim-1", "password": "B"}}}, {"url": "me:geheim@h"}):
        with pytest.raises(ValueError, match=r"validation errors? for") as told:
            RestSource.model_validate({"url": URL, **declared})
        assert "geheim" not in str(told.value)


# What variables hold


@pytest.mark.parametrize("value", ["geheim\n", "geheim\r\n", "ge\theim", "ge\x1bheim", "geheim\x85"])
def test_a_secret_with_control_characters_is_refused_without_it(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_TOKEN", value)
    with pytest.raises(SettingsError, match=r"^place names .* SHOP_TOKEN, whose value holds a line break or") as told:
        secret("SHOP_TOKEN", "place")
    assert "heim" not in str(told.value)


def test_keys_of_several_lines_are_taken_where_they_are_usual(monkeypatch: pytest.MonkeyPatch) -> None:
    key = '{\r\n\t"private_key": "ü"\n}\n'
    monkeypatch.setenv("GOOGLE_KEY", key)
    table = DeltaSource.model_validate({"url": "gs://b/t", "secrets": {"google_service_account_key": "GOOGLE_KEY"}})
    assert table.all_options("place")[1] == [key]
    monkeypatch.setenv("GOOGLE_KEY", "{\x07")
    with pytest.raises(SettingsError, match="another control character"):
        table.all_options("place")


def test_a_token_that_looks_like_a_name_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ghp_geheim", raising=False)
    with pytest.raises(SettingsError, match="names an environment variable, which is not set") as told:
        secret("ghp_geheim", "place")
    assert "geheim" not in str(told.value)


AUTHS: list[dict[str, Any]] = [
    {"bearer": "SHOP_TOKEN"},
    {"api_key": "SHOP_TOKEN", "header": "X-Key"},
    {"api_key": "SHOP_TOKEN", "param": "key"},
    {"basic": {"user": "SHOP_TOKEN", "password": "SHOP_TOKEN"}},
    {"oauth2": {"token_url": "", "client_id": "SHOP_TOKEN", "client_secret": "SHOP_TOKEN"}},
]


@pytest.mark.parametrize("value", ["geheim\n", "geheim–1"])
@pytest.mark.parametrize("auth", AUTHS, ids=lambda auth: "-".join(auth))
def test_a_secret_that_no_header_can_hold_is_told_without_it(
    auth: dict[str, Any], value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_TOKEN", value)
    with serve(Api()) as api:
        api.answer = lambda _: Reply({"access_token": "t", "data": []})
        if "oauth2" in auth:
            auth = {"oauth2": {**auth["oauth2"], "token_url": f"{api.url}/token"}}
        config = RestSource.model_validate({"url": f"{api.url}/orders", "auth": auth, **PAGED})
        if value.isprintable() and ("param" in auth or "oauth2" in auth):
            extract(config, WINDOW, tmp_path, columns=["id"], place=PLACE)  # what goes into no header may be anything
            return
        with pytest.raises(SettingsError, match=r"^orders.rest.auth.* SHOP_TOKEN, whose value holds a ") as told:
            extract(config, WINDOW, tmp_path, columns=["id"], place=PLACE)
        assert "geheim" not in str(told.value)
        assert api.requests == []


@pytest.mark.parametrize("token", ["geheim\n", "geheim–1"])
def test_a_token_of_the_api_that_no_header_can_hold_is_told_without_it(
    token: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_TOKEN", "secret")
    with serve(Api()) as api:
        api.answer = lambda _: Reply({"access_token": token, "data": []})
        oauth = {"token_url": f"{api.url}/token", "client_id": "SHOP_TOKEN", "client_secret": "SHOP_TOKEN"}
        config = RestSource.model_validate({"url": f"{api.url}/orders", "auth": {"oauth2": oauth}, **PAGED})
        with pytest.raises(SettingsError, match="token_url gives no token") as told:
            extract(config, WINDOW, tmp_path, columns=["id"], place=PLACE)
        assert "geheim" not in str(told.value)


# What cannot be meant


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        ({"until": "changed"}, "say under `pages` how"),
        ({"until": "changed", "pages": {"page": "p"}, "count": "total"}, "take `count` out"),
        ({"lookback": "15m"}, "it has none: add `window` or `until`"),
        ({"timezone": "Europe/Berlin"}, "`timezone` is for moments that name no zone"),
        ({"timezone": "Europe/Berlin", "window": {"since": "s"}}, "`timezone` is for moments that name no zone"),
        ({"timezone": "Europe/Berlin", "window": {"since": "s", "format": "%Y%z"}}, "moments that name no zone"),
        ({"timezone": "Europe/Berln", "until": "u", "pages": {"page": "p"}}, "is no time zone known here"),
        ({"window": {"since": "s", "format": "%s"}}, "use epoch"),
        ({"url": "https://[x/"}, "it is no address of an API"),
        ({"url": "https://shop.example:99999/"}, "it is no address of an API"),
        ({"auth": {"api_key": "K", "header": "X Key"}}, "should match pattern"),
        ({"auth": "TOKEN"}, "it must hold keys, such as `bearer:` or `api_key:`"),
        ({"pages": "next"}, "it must hold keys, such as `page:` or `first:`"),
    ],
)
def test_what_cannot_be_meant_is_refused(declared: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=said):
        RestSource.model_validate({"url": URL, **declared})
    path = tmp_path / "sources.yaml"
    path.write_text(json.dumps({"orders": {"rest": {"url": URL, **declared}}}))
    with pytest.raises(SettingsError, match=rf"orders\.rest.* cannot be used: .*{said}"):
        load_sources(path)


@pytest.mark.parametrize("lookback", [-3600, -0.5, timedelta(seconds=-1), "-1h", "99999999999999d"])
def test_a_lookback_that_would_narrow_the_window_is_refused(lookback: object) -> None:
    for model, declared in (
        (RestSource, {"url": URL, "window": {"since": "s"}, "lookback": lookback}),
        (SqlSource, {"url": "U", "table": "t", "window": "w", "lookback": lookback}),
        (DeltaSource, {"url": "s3://b/t", "window": "w", "lookback": lookback}),
        (Complete, {"unchanged_for": lookback}),
    ):
        with pytest.raises(ValueError, match=r"below zero|no span of time|longer than time itself"):
            model.model_validate(declared)


def test_a_lookback_is_a_span_or_a_number_of_seconds() -> None:
    for lookback in ("15m", 900, timedelta(minutes=15)):
        declared = {"url": URL, "window": {"since": "s"}, "lookback": lookback}
        assert RestSource.model_validate(declared).lookback == timedelta(minutes=15)
