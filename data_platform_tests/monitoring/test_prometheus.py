"""The alert rules and the dashboard, by Prometheus' own programs."""

import json
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from data_platform.alerts.events import SEVERITIES
from data_platform.monitoring.exporter import serving
from data_platform.monitoring.metrics import METRICS
from data_platform_tests.monitoring.conftest import of_platform, program
from data_platform_tests.test_cli import Platform

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
RULES = DEPLOY / "prometheus" / "rules.yml"
CASES = DEPLOY / "prometheus" / "rules_test.yml"
BOARD = json.loads((DEPLOY / "grafana" / "data-platform.json").read_text())
PANELS = [panel for panel in BOARD["panels"] if panel["type"] != "row"]
# No daemon ran over the demo's data.
WITHOUT_DATA = {"Since the daemon was heard of"}
EXPOSED = {metric.full_name + ("_total" if metric.kind == "counter" else "") for metric in METRICS}
BUILT_IN = {"$__rate_interval": "1m", "$__interval": "1m", "$__range": "1h"}


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def names_in(expression: str) -> set[str]:
    return set(re.findall(r"\bdata_platform_\w+", expression))


def check(*arguments: str, cwd: Path = DEPLOY / "prometheus") -> subprocess.CompletedProcess[str]:
    return subprocess.run([program("promtool"), *arguments], cwd=cwd, capture_output=True, text=True)


# -- rules ------------------------------------------------------------------------------------------------------------


def test_rules_and_configuration_are_what_prometheus_reads() -> None:
    for what in (("check", "rules", "rules.yml"), ("check", "config", "prometheus.yml")):
        done = check(*what)
        assert done.returncode == 0, done.stdout + done.stderr


def test_each_rule_says_how_bad_it_is_and_what_to_do() -> None:
    for rule in rules():
        assert rule["labels"]["severity"] in SEVERITIES[1:], rule
        assert set(rule["annotations"]) == {"summary", "description", "action"}, rule
        assert all(text.strip().endswith((".", ")")) for text in rule["annotations"].values()), rule
    assert len({rule["alert"] for rule in rules()}) == len(rules())


def test_rules_fire_and_are_quiet_as_their_cases_say() -> None:
    done = check("test", "rules", "rules_test.yml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_rule_has_a_case_in_which_it_fires_and_one_in_which_it_is_quiet() -> None:
    said = {(case["alertname"], bool(case["exp_alerts"])) for test in yaml.safe_load(CASES.read_text())["tests"]
            for case in test["alert_rule_test"]}  # fmt: skip
    assert said == {(rule["alert"], fires) for rule in rules() for fires in (True, False)}


@pytest.mark.parametrize("broken", ["vector(1) < 0", "vector(1)"])
def test_a_rule_that_never_or_always_fires_fails_its_cases(tmp_path: Path, broken: str) -> None:
    document = yaml.safe_load(RULES.read_text())
    for group in document["groups"]:
        group["rules"] = [rule | {"expr": broken} for rule in group["rules"]]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump(document))
    shutil.copy(CASES, tmp_path)
    done = check("test", "rules", "rules_test.yml", cwd=tmp_path)
    assert done.returncode == 1
    assert {rule["alert"] for rule in rules()} == set(re.findall(r"alertname: ?(\w+)", done.stdout + done.stderr))


def test_rules_ask_for_metrics_that_the_exporter_has() -> None:
    asked = {name for rule in rules() for name in names_in(rule["expr"])}
    assert asked <= EXPOSED
    assert len(asked) > 10


# -- the dashboard ----------------------------------------------------------------------------------------------------


def filled(expression: str, variables: dict[str, str]) -> str:
    """An expression as Grafana would ask it, with everything chosen."""
    for name, value in (BUILT_IN | variables).items():
        expression = expression.replace(name, value)
    assert "$" not in expression, expression
    return expression


@pytest.fixture(scope="module")
def prometheus(loaded: Platform, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a Prometheus that has scraped the exporter of the loaded platform, with the platform's own rules."""
    binary, folder = program("prometheus"), tmp_path_factory.mktemp("prometheus")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with serving(of_platform(loaded), "127.0.0.1", 0) as exporter:
        configuration = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
        configuration["global"] = {"evaluation_interval": "1s"}
        (job,) = configuration["scrape_configs"]
        job |= {"scrape_interval": "5s", "scrape_timeout": "5s"}
        job["static_configs"] = [{"targets": [f"127.0.0.1:{exporter}"]}]
        (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration))
        shutil.copy(RULES, folder)
        with (folder / "log").open("w") as log:
            server = subprocess.Popen(
                [binary, f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}",
                 f"--web.listen-address=127.0.0.1:{port}"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        url = f"http://127.0.0.1:{port}"
        try:
            wait_for_scrapes(url, folder / "log", count=2)
            yield url
        finally:
            server.terminate()
            server.wait(timeout=60)


def wait_for_scrapes(url: str, log: Path, *, count: int) -> None:
    for _ in range(600):
        try:
            ready = requests.get(f"{url}/-/ready", timeout=30).ok  # it answers before it is
            found = query(url, "count_over_time(data_platform_up[1h])") if ready else []
        except requests.ConnectionError:
            found = []
        if found and float(found[0]["value"][1]) >= count:
            return
        time.sleep(0.2)
    pytest.fail(f"Prometheus did not scrape: {log.read_text()[-2000:]}")


def query(url: str, expression: str) -> list[dict[str, Any]]:
    answer = requests.get(f"{url}/api/v1/query", params={"query": expression}, timeout=30).json()
    assert answer["status"] == "success", (expression, answer)
    found: list[dict[str, Any]] = answer["data"]["result"]
    return found


@pytest.fixture(scope="module")
def variables(prometheus: str) -> dict[str, str]:
    """What Grafana puts for each variable of the board when all is chosen: its values, by its own query."""
    found = {}
    for variable in BOARD["templating"]["list"]:
        if variable["type"] == "query":
            asked = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"]["query"])
            assert asked, variable
            answer = requests.get(
                f"{prometheus}/api/v1/label/{asked[2]}/values", params={"match[]": asked[1]}, timeout=30
            ).json()
            assert answer["data"], variable["name"]
            found[f"${variable['name']}"] = f"({'|'.join(answer['data'])})"
    assert set(found) == {"$job", "$asset", "$entity"}
    return found


@pytest.mark.parametrize("panel", PANELS, ids=[panel["title"] for panel in PANELS])
def test_each_query_of_the_dashboard_has_data(
    panel: dict[str, Any], prometheus: str, variables: dict[str, str]
) -> None:
    assert panel["targets"]
    for target in panel["targets"]:
        found = query(prometheus, filled(target["expr"], variables))
        assert bool(found) == (panel["title"] not in WITHOUT_DATA), target["expr"]
        for series in found:
            legend = re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])
            assert set(legend) <= set(series["metric"]), (target, series["metric"])
            if len(found) > 1:
                assert legend, f"{panel['title']}: which is which?"


def test_the_dashboard_asks_for_metrics_that_the_exporter_has() -> None:
    asked = {name for panel in PANELS for target in panel["targets"] for name in names_in(target["expr"])}
    assert asked <= EXPOSED
    assert len(asked) > 20


def test_the_dashboard_is_whole_and_names_no_prometheus_of_somebodys() -> None:
    assert len({panel["id"] for panel in BOARD["panels"]}) == len(BOARD["panels"])
    taken: set[tuple[int, int]] = set()
    for panel in BOARD["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells
    sources = [panel["datasource"] for panel in PANELS] + [
        one["datasource"] for panel in PANELS for one in panel["targets"]
    ]
    assert all(source == {"type": "prometheus", "uid": "${datasource}"} for source in sources)
    assert "id" not in BOARD


def test_a_real_prometheus_evaluates_the_rules_without_an_error(prometheus: str) -> None:
    for _ in range(100):
        answer = requests.get(f"{prometheus}/api/v1/rules", timeout=30).json()
        found = [rule for group in answer["data"]["groups"] for rule in group["rules"]]
        if all(rule["health"] != "unknown" for rule in found):
            break
        time.sleep(0.2)
    assert {rule["name"]: rule["health"] for rule in found} == {rule["alert"]: "ok" for rule in rules()}
    # The demo's days are long ago: deliveries are late, and nothing is unreadable.
    pending = {rule["name"] for rule in found if rule["alerts"]}
    assert "DataPlatformDeliveryLate" in pending
    assert not pending & {"DataPlatformWarehouseDown", "DataPlatformPartUnreadable", "DataPlatformMetricsMissing"}
