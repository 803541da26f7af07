"""Viewers: a webserver that may only look, on a role that may only read, behind nginx with a login. All for real."""

import base64
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from psycopg import sql
from websockets.sync.client import connect

from data_platform_tests.conftest import throw_away

REPOSITORY = Path(__file__).resolve().parents[1]
SITE = REPOSITORY / "deploy" / "nginx" / "data-platform.conf"
NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
# As docs/access.md has it.
READ_DAGSTER = (
    "GRANT USAGE ON SCHEMA public TO {viewer}",
    "GRANT SELECT ON ALL TABLES IN SCHEMA public TO {viewer}",
    "ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO {viewer}",
)
PATIENCE = 180
LAUNCH = """
mutation { launchRun(executionParams: {runConfigData: {}, selector: {repositoryLocationName: "data_platform",
    repositoryName: "__repository__", jobName: "no_such_job"}}) { __typename } }
"""


@dataclass(frozen=True)
class Servers:
    """Two webservers on one Dagster: `acting` for operators, `looking` for viewers; and the log of the latter."""

    acting: int
    looking: int
    viewer: str
    log: Path


@dataclass(frozen=True)
class Site:
    """The site, and how its certificate is known."""

    url: str
    tls: ssl.SSLContext


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
    return port


@contextmanager
def running(command: list[str], environment: dict[str, str], log: Path) -> Iterator[None]:
    with log.open("w") as file:
        process = subprocess.Popen(
            command, cwd=REPOSITORY, env=environment, stdin=subprocess.DEVNULL, stdout=file, stderr=file,
            start_new_session=True,
        )  # fmt: skip
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def answer(url: str, query: str, **request: Any) -> Any:
    """What GraphQL answers; waits until somebody does."""
    content = json.dumps({"query": query}).encode()
    headers = {"Content-Type": "application/json", **request.get("headers", {})}
    limit = time.monotonic() + PATIENCE
    while True:
        try:
            asked = urllib.request.Request(f"{url}/graphql", content, headers)
            with urllib.request.urlopen(asked, context=request.get("context")) as response:
                return json.load(response)["data"]
        except (urllib.error.URLError, ConnectionError) as error:
            if isinstance(error, urllib.error.HTTPError) and error.code != 502:
                raise
            if time.monotonic() > limit:
                raise
            time.sleep(0.2)


@pytest.fixture(scope="module")
def servers(server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    tmp_path = tmp_path_factory.mktemp("viewers")
    login = f"test_{uuid.uuid4().hex[:12]}"
    with throw_away(server) as warehouse, throw_away(server) as dagster:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("DATA_PLATFORM_", "PG"))}
        environment = inherited | {
            "DAGSTER_HOME": str(REPOSITORY),
            "DATA_PLATFORM_HOME": str(tmp_path / "home"),
            "DATA_PLATFORM_WAREHOUSE_URL": warehouse,
            "DATA_PLATFORM_DAGSTER_URL": dagster,
        }
        command = [sys.executable, "-c", "from data_platform.cli import main; main()"]
        subprocess.run([*command, "backfill", "--from", "2024-01-01", "--to", "2024-01-01", "--select", "raw_orders"],
                       env=environment, check=True, capture_output=True)  # fmt: skip
        with psycopg.connect(dagster) as connection:
            _make_viewer(connection, login)
        viewer = urlunsplit(urlsplit(dagster)._replace(netloc=f"{login}:{login}@{_place(dagster)}"))
        acting, looking = free_port(), free_port()
        webserver = [
            str(Path(sys.executable).parent / "dagster-webserver"),
            "--host",
            "127.0.0.1",
            "-w",
            "workspace.yaml",
        ]
        looks = environment | {"DATA_PLATFORM_DAGSTER_URL": viewer, "DATA_PLATFORM_WAREHOUSE_URL": viewer}
        log = tmp_path / "viewer.log"
        with (
            running([*webserver, "--port", str(acting)], environment, tmp_path / "acting.log"),
            running([*webserver, "--port", str(looking), "--read-only"], looks, log),
        ):
            yield Servers(acting, looking, viewer, log)
        with psycopg.connect(dagster, autocommit=True) as connection:
            name = sql.Identifier(login)
            connection.execute(
                sql.SQL("ALTER DEFAULT PRIVILEGES IN SCHEMA public REVOKE ALL ON TABLES FROM {}").format(name)
            )
            connection.execute(sql.SQL("REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {}").format(name))
            connection.execute(sql.SQL("REVOKE ALL ON SCHEMA public FROM {}").format(name))
            connection.execute(sql.SQL("DROP ROLE {}").format(name))


def _place(url: str) -> str:
    return urlsplit(url).netloc.rpartition("@")[2]


def _make_viewer(connection: psycopg.Connection, login: str) -> None:
    found = connection.execute("SELECT rolcreaterole OR rolsuper FROM pg_roles WHERE rolname = current_user").fetchone()
    if found != (True,):
        pytest.skip("the role of DATA_PLATFORM_TEST_URL may not make roles")
    name = sql.Identifier(login)
    connection.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(name, sql.Literal(login)))
    for statement in READ_DAGSTER:
        connection.execute(sql.SQL(statement).format(viewer=name))


def test_a_viewers_webserver_shows_runs_and_assets_and_launches_nothing(servers: Servers) -> None:
    url = f"http://127.0.0.1:{servers.looking}"
    runs = answer(url, "{ runsOrError { ... on Runs { results { status } } } }")
    assert runs == {"runsOrError": {"results": [{"status": "SUCCESS"}]}}
    nodes = answer(url, "{ assetNodes { assetKey { path } } }")["assetNodes"]
    assert ["fact_sales"] in [node["assetKey"]["path"] for node in nodes]
    assert answer(url, LAUNCH)["launchRun"]["__typename"] == "UnauthorizedError"
    acting = answer(f"http://127.0.0.1:{servers.acting}", LAUNCH)["launchRun"]["__typename"]
    assert acting != "UnauthorizedError", "the other one could have launched it"
    said = servers.log.read_text()
    assert "permission denied" not in said
    assert "Traceback" not in said


def test_a_viewers_role_writes_nothing_into_dagsters_database(servers: Servers) -> None:
    answer(f"http://127.0.0.1:{servers.looking}", "{ version }")
    with psycopg.connect(servers.viewer, autocommit=True) as connection:
        assert connection.execute("SELECT count(*) FROM runs").fetchone() == (1,)
        for statement in ("DELETE FROM runs", "UPDATE runs SET status = ''", "CREATE TABLE mine (n integer)"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement)


def test_servers_listen_on_loopback_alone() -> None:
    recipes = re.findall(r"^\t@exec \S+/(?:dg dev|dagster-webserver).*$", (REPOSITORY / "Makefile").read_text(), re.M)
    assert len(recipes) == 2
    assert all("--host 127.0.0.1" in recipe for recipe in recipes)
    assert "--read-only" in recipes[1]
    upstreams = re.findall(r"[\d.]+:\d+;", SITE.read_text())
    assert upstreams == ["127.0.0.1:3001;", "127.0.0.1:3000;"]


@pytest.fixture(scope="module")
def site(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The site as it is deployed, with other ports and paths."""
    if NGINX is None or shutil.which("openssl") is None:
        pytest.skip("nginx and openssl are not both installed")
    folder = tmp_path_factory.mktemp("nginx")
    port = free_port()
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", folder / "key.pem", "-out", folder / "cert.pem"],
        check=True, capture_output=True,
    )  # fmt: skip
    users = [f"{name}:{_hashed(f'{name}-password')}" for name in ("operator", "Operator", "ada")]
    (folder / "users").write_text("\n".join(users) + "\n")
    for path in (folder, *folder.parents):  # nginx's workers run as another user, and read who may log in
        if path.owner() == Path.home().owner() and path.is_relative_to(folder.parent.parent):
            path.chmod(0o755)
    text = (
        SITE.read_text()
        .replace("/etc/nginx/data-platform", str(folder))
        .replace("listen 443", f"listen 127.0.0.1:{port}")
    )
    text = text.replace("127.0.0.1:3001", f"127.0.0.1:{servers.looking}").replace(
        "127.0.0.1:3000", f"127.0.0.1:{servers.acting}"
    )
    (folder / "site.conf").write_text(text)
    paths = "".join(
        f"{name}_temp_path {folder}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"daemon off; pid {folder}/pid; error_log {folder}/error.log;\nevents {{}}\n"
        f"http {{ access_log off; {paths} include {folder}/site.conf; }}\n"
    )
    with running([NGINX, "-p", str(folder), "-c", f"{folder}/nginx.conf"], dict(os.environ), folder / "said.log"):
        yield Site(f"https://127.0.0.1:{port}", ssl.create_default_context(cafile=folder / "cert.pem"))


def _hashed(password: str) -> str:
    done = subprocess.run(["openssl", "passwd", "-apr1", password], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def login(name: str, password: str | None = None) -> dict[str, str]:
    told = f"{name}:{password or f'{name}-password'}".encode()
    return {"Authorization": f"Basic {base64.b64encode(told).decode()}"}


def test_nobody_sees_anything_without_a_login(site: Site) -> None:
    answer(site.url, "{ version }", context=site.tls, headers=login("ada"))
    for headers in ({}, login("ada", "wrong"), login("nobody")):
        for path in ("/", "/graphql", "/server_info", "/report_asset_materialization/x"):
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(urllib.request.Request(f"{site.url}{path}", headers=headers), context=site.tls)
            assert refused.value.code == 401, (path, headers)


def test_viewers_look_and_operators_act(site: Site) -> None:
    launched = {
        name: answer(site.url, LAUNCH, context=site.tls, headers=login(name))["launchRun"]["__typename"]
        for name in ("ada", "Operator", "operator")
    }
    assert launched["ada"] == launched["Operator"] == "UnauthorizedError"
    assert launched["operator"] != "UnauthorizedError"
    page = urllib.request.Request(f"{site.url}/", headers=login("ada"))
    with urllib.request.urlopen(page, context=site.tls) as response:
        assert response.status == 200
        assert b"dagster" in response.read().lower()


@pytest.mark.parametrize("name", ["ada", "operator"])
def test_runs_are_followed_by_a_websocket(site: Site, name: str) -> None:
    answer(site.url, "{ version }", context=site.tls, headers=login(name))
    address = site.url.replace("https://", "wss://") + "/graphql"
    with connect(address, ssl=site.tls, additional_headers=login(name), subprotocols=["graphql-ws"]) as socket:  # type: ignore[list-item]
        socket.send(json.dumps({"type": "connection_init"}))
        assert json.loads(socket.recv(timeout=30)) == {"type": "connection_ack"}
    with pytest.raises(Exception, match="401"), connect(address, ssl=site.tls, subprotocols=["graphql-ws"]):  # type: ignore[list-item]
        pass
