"""deploy/helm: the values against the keys that Dagster's chart has, the instance and the run launcher against Dagster.

The chart itself cannot be rendered here. Its keys are written down from its schema (dagster-io/dagster,
helm/dagster/schema); a pod of a run is made by the launcher's own code, without a cluster.
"""

import copy
from collections import Counter
from pathlib import Path
from typing import Any

import dagster_k8s
import pytest
import yaml
from click.testing import CliRunner
from dagster._cli import cli as dagster
from dagster._config import process_config, resolve_to_config_type
from dagster._core.instance.ref import InstanceRef
from dagster_k8s import K8sRunLauncher
from dagster_k8s.container_context import K8sContainerContext
from dagster_k8s.job import DagsterK8sJobConfig, construct_dagster_k8s_job

from data_platform.dagster_storage import PlatformArtifacts, PlatformComputeLogs, PlatformStorage
from data_platform.settings import read_settings
from data_platform_tests.deployment.files import DEPLOY, REPOSITORY, stages, values

POD = {
    "image", "env", "envConfigMaps", "envSecrets", "annotations", "labels", "nodeSelector", "affinity", "tolerations",
    "podSecurityContext", "securityContext", "resources", "livenessProbe", "readinessProbe", "startupProbe",
    "volumes", "volumeMounts", "schedulerName",
}  # fmt: skip
KEYS = {
    "": {
        "global", "dagsterWebserver", "dagsterDaemon", "dagster-user-deployments", "postgresql", "rabbitmq", "redis",
        "generatePostgresqlPasswordSecret", "generateCeleryConfigSecret", "flower", "ingress", "imagePullSecrets",
        "computeLogManager", "scheduler", "runLauncher", "pythonLogs", "busybox", "migrate", "telemetry",
        "serviceAccount", "retention", "concurrency", "additionalInstanceConfig",
    },
    "global": {"postgresqlSecretName", "dagsterHome", "serviceAccountName", "celeryConfigSecretName"},
    "dagsterWebserver": POD | {
        "replicaCount", "nameOverride", "service", "workspace", "enableReadOnly", "deploymentLabels", "pathPrefix",
        "dbStatementTimeout", "dbPoolRecycle", "logLevel", "initContainerResources",
    },
    "dagsterDaemon": POD | {
        "enabled", "runCoordinator", "heartbeatTolerance", "deploymentLabels", "runMonitoring", "runRetries", "sensors",
        "schedules", "initContainerResources",
    },
    "dagster-user-deployments": {"enabled", "enableSubchart", "imagePullSecrets", "deployments"},
    "dagster-user-deployments.deployments": POD | {
        "name", "port", "dagsterApiGrpcArgs", "codeServerArgs", "includeConfigInLaunchedRuns",
    },
    "postgresql": {"enabled", "image", "postgresqlHost", "postgresqlUsername", "postgresqlPassword",
                   "postgresqlDatabase", "postgresqlParams", "postgresqlScheme", "service"},
    "telemetry": {"enabled"},
}  # fmt: skip
NESTED = {
    "image": {"repository", "tag", "pullPolicy"},
    "workspace": {"enabled", "servers", "externalConfigmap"},
    "servers": {"host", "port", "name", "ssl"},
    "includeConfigInLaunchedRuns": {"enabled"},
}


@pytest.fixture(scope="module")
def instance() -> dict[str, Any]:
    return yaml.safe_load((DEPLOY / "helm" / "dagster.yaml").read_text())  # type: ignore[no-any-return]


def pods() -> dict[str, dict[str, Any]]:
    told = values()
    [code] = told["dagster-user-deployments"]["deployments"]
    return {"webserver": told["dagsterWebserver"], "daemon": told["dagsterDaemon"], "code": code}


def test_every_key_is_one_of_the_charts() -> None:
    told = values()
    [code] = told["dagster-user-deployments"]["deployments"]
    for section, keys in KEYS.items():
        found = told if not section else code if section.endswith(".deployments") else told[section]
        assert set(found) <= keys, section
        for name, nested in NESTED.items():
            inner = found.get(name, {}) if section else {}
            for one in inner if isinstance(inner, list) else [inner]:
                assert set(one) <= nested, (section, name)
    assert {
        set(server) <= NESTED["servers"] and "host" in server
        for server in told["dagsterWebserver"]["workspace"]["servers"]
    } == {True}


def test_webserver_daemon_and_code_server_are_one_image_and_no_pod_mounts_two_things_at_one_place() -> None:
    found = pods()
    assert len({yaml.safe_dump(pod["image"]) for pod in found.values()}) == 1
    user = int(stages()[-1].user.partition(":")[0])
    for name, pod in found.items():
        assert pod["podSecurityContext"]["runAsUser"] == user, name
        assert pod["securityContext"]["readOnlyRootFilesystem"] is True
        mounted = Counter(mount["mountPath"] for mount in pod["volumeMounts"])
        assert set(mounted.values()) == {1}, name
        assert {mount["name"] for mount in pod["volumeMounts"]} <= {volume["name"] for volume in pod["volumes"]}
        assert "/tmp" in mounted  # the root of the file system is read-only


def test_the_instance_is_that_of_the_clone_with_a_pod_for_each_run(instance: dict[str, Any]) -> None:
    clone = yaml.safe_load((REPOSITORY / "dagster.yaml").read_text())
    assert {name: value for name, value in instance.items() if name != "run_launcher"} == clone


def test_the_instance_loads_with_our_storage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warehouse_url: str
) -> None:
    (tmp_path / "dagster.yaml").write_text((DEPLOY / "helm" / "dagster.yaml").read_text())
    monkeypatch.setenv("DATA_PLATFORM_DAGSTER_URL", warehouse_url)
    ref = InstanceRef.from_dir(str(tmp_path))
    assert isinstance(ref.storage, PlatformStorage)
    assert isinstance(ref.local_artifact_storage, PlatformArtifacts)
    assert isinstance(ref.compute_log_manager, PlatformComputeLogs)
    assert ref.run_launcher_data is not None
    assert (ref.run_launcher_data.module_name, ref.run_launcher_data.class_name) == ("dagster_k8s", "K8sRunLauncher")


def test_every_pod_finds_its_instance_settings_and_files(instance: dict[str, Any]) -> None:
    home = instance["run_launcher"]["config"]["dagster_home"]
    image = stages()[-1].environment
    for name, pod in pods().items():
        told = {variable["name"]: variable["value"] for variable in pod["env"]}
        chosen = read_settings(image | told)
        mounts = {mount["mountPath"]: mount for mount in pod["volumeMounts"]}
        assert str(chosen.home) in mounts
        assert str(chosen.sources_file.parent) in mounts
        assert str(chosen.alerts_file.parent) in mounts
        assert told["DAGSTER_HOME"] == home, name
        assert mounts[f"{home}/dagster.yaml"]["subPath"] == "dagster.yaml"
        [config] = [volume["configMap"]["name"] for volume in pod["volumes"] if "configMap" in volume]
        assert config == instance["run_launcher"]["config"]["instance_config_map"]
        known = (REPOSITORY / "data_platform" / "settings.py").read_text()
        assert all(f'"{variable}"' in known for variable in told)


def test_ports_and_names_agree_and_the_command_is_understood() -> None:
    told = values()
    [code] = told["dagster-user-deployments"]["deployments"]
    [server] = told["dagsterWebserver"]["workspace"]["servers"]
    assert (server["host"], server["port"]) == (code["name"], code["port"])
    [clone] = [one["python_module"] for one in yaml.safe_load((REPOSITORY / "workspace.yaml").read_text())["load_from"]]
    assert server["name"] == clone["location_name"]
    assert code["dagsterApiGrpcArgs"] == ["-m", clone["module_name"]]
    # As the chart starts it.
    command = ["api", "grpc", "-h", "0.0.0.0", "-p", str(code["port"]), *code["dagsterApiGrpcArgs"], "--help"]
    assert CliRunner().invoke(dagster, command).exit_code == 0
    port = told["dagsterWebserver"]["service"]["port"]
    assert {str(port), str(code["port"])} == set(stages()[-1].ports)
    for probe in ("readinessProbe", "livenessProbe", "startupProbe"):
        assert told["dagsterWebserver"][probe]["httpGet"] == {"path": "/server_info", "port": port}


def test_the_run_launcher_takes_its_configuration_and_makes_a_pod_that_is_whole(
    instance: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = instance["run_launcher"]["config"]
    processed = process_config(resolve_to_config_type(K8sRunLauncher.config_type()), copy.deepcopy(config))
    assert processed.success, processed.errors
    monkeypatch.setattr(dagster_k8s.launcher, "load_kubernetes_config", lambda **_: None)  # there is no cluster
    launcher = K8sRunLauncher.from_config_value(None, processed.value)
    [code] = values()["dagster-user-deployments"]["deployments"]
    image = f"{code['image']['repository']}:{code['image']['tag']}"
    # What the chart hands to the code server of its own configuration, for the runs.
    of_code_server = {
        "k8s": {
            "image_pull_policy": code["image"]["pullPolicy"],
            "env_secrets": [secret["name"] for secret in code["envSecrets"]],
            "env": code["env"],
            "volumes": code["volumes"],
            "volume_mounts": code["volumeMounts"],
            "resources": code["resources"],
        }
    }
    base = K8sContainerContext.create_from_config({"k8s": launcher_context(launcher)})
    context = base.merge(K8sContainerContext.create_from_config(of_code_server))
    job_config = context.get_k8s_job_config(job_image=image, run_launcher=launcher)
    assert isinstance(job_config, DagsterK8sJobConfig)
    job = construct_dagster_k8s_job(
        job_config, ["dagster", "api", "execute_run"], "run", user_defined_k8s_config=context.run_k8s_config
    ).to_dict()
    pod = job["spec"]["template"]["spec"]
    [container] = pod["containers"]
    assert container["image"] == image
    mounted = Counter(mount["mount_path"] for mount in container["volume_mounts"])
    assert set(mounted.values()) == {1}, mounted
    assert {f"{config['dagster_home']}/dagster.yaml", "/var/lib/data-platform", "/etc/data-platform", "/tmp"} == set(
        mounted
    )
    told = {variable["name"]: variable["value"] for variable in container["env"]}
    assert told["DAGSTER_HOME"] == config["dagster_home"]
    assert told["DATA_PLATFORM_TIMEZONE"] == "UTC"
    assert [source["secret_ref"]["name"] for source in container["env_from"]] == ["data-platform"]
    assert pod["security_context"]["run_as_user"] == int(stages()[-1].user.partition(":")[0])
    assert container["security_context"]["read_only_root_filesystem"] is True
    assert {name: dict(told) for name, told in container["resources"].items() if told} == code["resources"]
    assert job["spec"]["ttl_seconds_after_finished"] == 86400
    assert pod["service_account_name"] == values()["global"]["serviceAccountName"]


def launcher_context(launcher: K8sRunLauncher) -> dict[str, Any]:
    return {"run_k8s_config": dict(launcher.run_k8s_config), "service_account_name": launcher.service_account_name}
