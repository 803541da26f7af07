"""docs/runbook.md and docs/deployment.md against the code: alerts, commands, services, names of Kubernetes."""

import re
import shlex
from typing import get_args

import pytest
import yaml
from typer.main import get_command
from typer.testing import CliRunner

from data_platform.alerts.events import Kind
from data_platform.cli import app
from data_platform_tests.deployment.files import DEPLOY, REPOSITORY, compose, values

RUNBOOK = (REPOSITORY / "docs" / "runbook.md").read_text()
DEPLOYMENT = (REPOSITORY / "docs" / "deployment.md").read_text()


def commands(text: str) -> list[str]:
    """Every call of `data-platform` in blocks of shell and in code within lines."""
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    lines = [line.partition("#")[0] for block in blocks for line in block.splitlines()]
    lines += re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    called = re.compile(r"(?<![\w/-])data-platform [a-z][^`\")]*")
    found = {match[0].strip() for line in lines if "kubectl" not in line for match in called.finditer(line)}
    return sorted(command for command in found if "…" not in command)


def test_every_kind_of_alert_has_its_place_in_the_runbook_and_no_other() -> None:
    part = RUNBOOK.partition("\n## Alerts\n")[2]
    assert re.findall(r"^### (\w+)$", part, re.MULTILINE) == list(get_args(Kind))


def test_there_are_commands_to_look_at() -> None:
    assert len(commands(RUNBOOK)) >= 10


@pytest.mark.parametrize("command", [*commands(RUNBOOK), *commands(DEPLOYMENT)])
def test_every_command_is_one_that_there_is(command: str) -> None:
    _, *arguments = shlex.split(command)
    done = CliRunner().invoke(app, [*arguments, "--help"], prog_name="data-platform")
    assert done.exit_code == 0, done.output
    assert arguments[0] in get_command(app).commands  # type: ignore[attr-defined]


def test_every_service_that_is_named_is_in_the_compose_file() -> None:
    named = re.findall(r"docker compose -f (\S+) exec (?:-T )?(\w+)", RUNBOOK + DEPLOYMENT)
    assert named
    for path, service in named:
        assert (REPOSITORY / path).exists()
        assert service in compose()["services"]


def test_what_is_made_on_kubernetes_before_the_chart_bears_the_names_that_it_uses() -> None:
    told = values()
    [code] = told["dagster-user-deployments"]["deployments"]
    launcher = yaml.safe_load((DEPLOY / "helm" / "dagster.yaml").read_text())["run_launcher"]["config"]
    assert f"create namespace {launcher['job_namespace']}\n" in DEPLOYMENT
    [secret] = code["envSecrets"]
    assert f"create secret generic {secret['name']} " in DEPLOYMENT
    assert secret["name"] == told["global"]["postgresqlSecretName"]
    assert f"create configmap {launcher['instance_config_map']} " in DEPLOYMENT
    [claim] = [one["persistentVolumeClaim"]["claimName"] for one in code["volumes"] if "persistentVolumeClaim" in one]
    assert f"metadata: {{name: {claim}}}" in DEPLOYMENT
    version = re.search(r"^dagster==(\S+)", (REPOSITORY / "requirements-image.lock").read_text(), re.MULTILINE)
    assert version is not None
    assert f"--version {version[1]} " in DEPLOYMENT
