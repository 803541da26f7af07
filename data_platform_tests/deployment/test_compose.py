"""deploy/compose.yaml: keys of the compose specification, and every command, variable, path and port the code's own.

Which keys there are, and what they may hold, is written down here from the specification: only those that are used.
"""

import re
from dataclasses import fields
from pathlib import Path
from typing import Literal

import pytest
import yaml
from click.testing import CliRunner
from dagster._cli import cli as dagster
from dagster._daemon.cli import cli as dagster_daemon
from dagster_webserver.cli import dagster_webserver
from pydantic import BaseModel, ConfigDict, TypeAdapter
from typer.main import get_command

from data_platform import cli
from data_platform.settings import Settings, read_settings
from data_platform_tests.deployment.files import DEPLOY, REPOSITORY, compose, interpolated, stages

DURATION = re.compile(r"^\d+[smh]$")
OURS = ("migrate", "code", "webserver", "daemon", "viewer")


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Healthcheck(Strict):
    test: list[str] | None = None
    interval: str = "30s"
    timeout: str = "30s"
    start_period: str = "0s"
    retries: int = 3
    disable: bool = False


class Build(Strict):
    context: str


class EnvFile(Strict):
    path: str
    required: bool


class Dependency(Strict):
    condition: Literal["service_started", "service_healthy", "service_completed_successfully"]


class Limits(Strict):
    cpus: str
    memory: str


class Resources(Strict):
    limits: Limits


class Deploy(Strict):
    resources: Resources


class Logging(Strict):
    driver: str
    options: dict[str, str]


class Service(Strict):
    image: str
    build: Build | None = None
    init: bool = False
    restart: Literal["no", "always", "on-failure", "unless-stopped"]
    stop_grace_period: str = "10s"
    read_only: bool = False
    tmpfs: list[str] = []
    cap_drop: list[str] = []
    security_opt: list[str] = []
    environment: dict[str, str]
    env_file: list[EnvFile] = []
    secrets: list[str] = []
    volumes: list[str] = []
    logging: Logging
    command: list[str]
    ports: list[str] = []
    expose: list[str] = []
    shm_size: str = ""
    healthcheck: Healthcheck | None = None
    depends_on: dict[str, Dependency] = {}
    deploy: Deploy
    profiles: list[str] = []


class File(Strict):
    file: str


class Compose(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    name: str
    services: dict[str, Service]
    volumes: dict[str, dict[str, str]]
    secrets: dict[str, File]


@pytest.fixture(scope="module")
def parsed() -> Compose:
    told = {name: value for name, value in compose().items() if not name.startswith("x-")}
    return TypeAdapter(Compose).validate_python(told)


def test_every_key_is_one_of_the_specification_and_every_name_is_declared(parsed: Compose) -> None:
    assert set(parsed.services) == {"postgres", *OURS}
    for name, service in parsed.services.items():
        assert set(service.secrets) <= set(parsed.secrets), name
        assert set(service.depends_on) <= set(parsed.services), name
        for volume in service.volumes:
            source, target = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", volume).split(":")[:2]
            assert source.startswith("./") or source in parsed.volumes, volume
            assert target.startswith("/"), volume
        check = service.healthcheck or Healthcheck()
        assert all(map(DURATION.match, (check.interval, check.timeout, check.start_period, service.stop_grace_period)))
        for other, dependency in service.depends_on.items():
            if dependency.condition == "service_healthy":
                checked = parsed.services[other].healthcheck
                assert checked is not None, other
                assert not checked.disable
                assert checked.test


def test_what_is_published_is_published_on_this_machine_only_and_is_what_the_command_listens_on(
    parsed: Compose,
) -> None:
    published = {name: service.ports for name, service in parsed.services.items() if service.ports}
    assert set(published) == {"postgres", "webserver", "viewer"}
    for name, ports in published.items():
        for port in ports:
            address, _, inner = interpolated(port, {}).split(":")
            assert address == "127.0.0.1"
            command = parsed.services[name].command
            assert inner == (command[command.index("-p") + 1] if "-p" in command else "5432")
            assert name == "postgres" or inner in stages()[-1].ports
    numbers = [interpolated(port, {}).split(":")[1] for ports in published.values() for port in ports]
    assert len(set(numbers)) == len(numbers)


@pytest.mark.parametrize("service", OURS)
def test_a_service_is_the_image_confined_and_its_command_is_one_that_is_understood(
    parsed: Compose, service: str
) -> None:
    told = parsed.services[service]
    assert told.image.startswith("data-platform:")
    assert told.build is not None
    assert (DEPLOY / told.build.context / "Dockerfile").resolve() == REPOSITORY / "Dockerfile"
    assert (told.read_only, told.init, told.cap_drop) == (True, True, ["ALL"])
    commands = {
        "data-platform": get_command(cli.app),
        "dagster": dagster,
        "dagster-daemon": dagster_daemon,
        "dagster-webserver": dagster_webserver,
    }
    checks = [told.healthcheck.test[1:]] if told.healthcheck and told.healthcheck.test else []
    for program, *arguments in (told.command, *checks):
        # --help makes click parse what stands before it, and do nothing.
        done = CliRunner().invoke(commands[program], [*arguments, "--help"], catch_exceptions=False)
        assert done.exit_code == 0, (program, arguments, done.output)
        assert "No such" not in done.output
    if "-w" in told.command:
        copied = {source for _, sources, _ in stages()[0].copies for source in sources}
        assert told.command[told.command.index("-w") + 1] in copied


@pytest.mark.parametrize("service", OURS)
def test_every_variable_of_a_service_is_a_setting_of_the_code(parsed: Compose, service: str, tmp_path: Path) -> None:
    told = interpolated(parsed.services[service].environment, {})
    known = (REPOSITORY / "data_platform" / "settings.py").read_text()
    for name in told:
        assert f'"{name.removesuffix("_FILE")}"' in known, name
    secret = tmp_path / "url"
    secret.write_text("postgresql://platform:pass@postgres:5432/warehouse\n")
    assert told["DATA_PLATFORM_WAREHOUSE_URL_FILE"] == f"/run/secrets/{parsed.services[service].secrets[0]}"
    chosen = read_settings(stages()[-1].environment | told | {"DATA_PLATFORM_WAREHOUSE_URL_FILE": str(secret)})
    assert chosen.warehouse_url == secret.read_text().strip()
    plain = read_settings({})
    kept = {field.name for field in fields(Settings) if getattr(chosen, field.name) == getattr(plain, field.name)}
    assert {"start_date", "timezone", "holidays_country", "executor", "retry_delay"} <= kept
    targets = [
        volume.split(":")[-1] if volume.count(":") == 1 else volume.split(":")[-2]
        for volume in parsed.services[service].volumes
    ]
    for place in (
        chosen.home,
        Path(chosen.lake_url),
        Path(chosen.landing_url),
        chosen.sources_file,
        chosen.alerts_file,
    ):
        assert any(place.is_relative_to(target) for target in targets), place


def test_the_workspace_names_the_code_server_its_port_and_the_location_of_a_clone(parsed: Compose) -> None:
    [server] = [one["grpc_server"] for one in yaml.safe_load((DEPLOY / "workspace.yaml").read_text())["load_from"]]
    command = parsed.services[server["host"]].command
    assert str(server["port"]) == command[command.index("-p") + 1]
    assert command[command.index("-m") + 1] == "data_platform.definitions"
    [module] = [
        one["python_module"] for one in yaml.safe_load((REPOSITORY / "workspace.yaml").read_text())["load_from"]
    ]
    assert server["location_name"] == module["location_name"]


def test_postgres_is_one_of_the_supported_versions_and_its_password_is_in_a_file_alone(parsed: Compose) -> None:
    postgres = parsed.services["postgres"]
    image, _, version = postgres.image.partition(":")
    assert image == "postgres"
    assert 15 <= int(version) <= 17  # from 18 on the image keeps its data elsewhere
    assert postgres.volumes == ["postgres:/var/lib/postgresql/data"]
    assert postgres.environment["POSTGRES_PASSWORD_FILE"] == f"/run/secrets/{postgres.secrets[0]}"
    text = (DEPLOY / "compose.yaml").read_text()
    assert not re.search(r"(?i)password: *[^\s{]", text)


def test_every_variable_of_the_shell_has_a_default_and_is_told_of_in_the_head_of_the_file() -> None:
    text = (DEPLOY / "compose.yaml").read_text()
    head, _, body = text.partition("name: data-platform")
    for whole, name, default in re.findall(r"(\$\{(\w+)(:-[^}]*)?\})", body):
        assert default, whole
        assert name.startswith("DATA_PLATFORM_") or f"#   {name} " in head, name
