"""Dockerfile, compose file and chart values as data, for the tests that hold them against the code."""

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
DEPLOY = REPOSITORY / "deploy"
INSTRUCTIONS = frozenset({"ARG", "FROM", "WORKDIR", "COPY", "RUN", "ENV", "USER", "EXPOSE", "HEALTHCHECK", "CMD"})


@dataclass
class Stage:
    """What one FROM of the Dockerfile makes. `copies` are (from another stage, sources, target)."""

    base: str
    name: str = ""
    workdir: str = "/"
    copies: list[tuple[str, list[str], str]] = field(default_factory=list)
    runs: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    user: str = "root"
    ports: list[str] = field(default_factory=list)
    healthcheck: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)


def stages() -> list[Stage]:
    """The stages of the Dockerfile. Raises AssertionError on an instruction that is not among INSTRUCTIONS."""
    text = (REPOSITORY / "Dockerfile").read_text()
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    found: list[Stage] = []
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        if not line.strip():
            continue
        word, _, rest = line.strip().partition(" ")
        assert word in INSTRUCTIONS, line
        rest = rest.strip()
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            found.append(Stage(base, name))
        elif word != "ARG":
            _take(found[-1], word, rest)
    return found


def _take(stage: Stage, word: str, rest: str) -> None:
    if word == "COPY":
        option = re.match(r"--from=(\S+)\s+", rest)
        *sources, target = rest[option.end() if option else 0 :].split()
        target = target if target.startswith("/") else f"{stage.workdir}/{target.removeprefix('./')}"
        stage.copies.append((option[1] if option else "", sources, target))
    elif word == "ENV":
        stage.environment |= dict(part.split("=", 1) for part in rest.split())
    elif word == "HEALTHCHECK":
        stage.healthcheck = json.loads(rest.partition("CMD ")[2])
    elif word == "CMD":
        stage.command = json.loads(rest)
    elif word == "RUN":
        stage.runs.append(rest)
    else:
        setattr(
            stage,
            {"WORKDIR": "workdir", "USER": "user", "EXPOSE": "ports"}[word],
            rest if word != "EXPOSE" else rest.split(),
        )


def in_context(path: Path) -> bool:
    """Whether .dockerignore lets this file of the repository into the build."""
    name, kept = path.relative_to(REPOSITORY).as_posix(), True
    for pattern in (REPOSITORY / ".dockerignore").read_text().splitlines():
        if not pattern or pattern.startswith("#"):
            continue
        wanted = pattern.lstrip("!")
        parts = [*path.relative_to(REPOSITORY).parents, Path(name)]
        if any(
            fnmatch(part.as_posix(), wanted) or part.match(wanted.removeprefix("**/")) for part in parts if part.name
        ):
            kept = pattern.startswith("!")
    return kept


def copy_image(root: Path) -> None:
    """What the image holds of the repository, below `root`: the COPYs of the build stage, through .dockerignore."""
    for _, sources, target in stages()[0].copies:
        for source in sources:
            place = root / target.lstrip("/")
            origin = REPOSITORY / source
            files = [origin] if origin.is_file() else [path for path in origin.rglob("*") if path.is_file()]
            for file in filter(in_context, files):
                into = place / file.relative_to(origin) if origin.is_dir() else place / file.name
                into.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, into)


def compose() -> dict[str, Any]:
    """deploy/compose.yaml, its anchors and merges resolved, its variables not."""
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text())  # type: ignore[no-any-return]


def interpolated(value: Any, variables: Mapping[str, str]) -> Any:
    """`value` with ${NAME:-default} as compose fills it in."""
    if isinstance(value, str):
        return re.sub(r"\$\{(\w+)(?::-([^}]*))?\}", lambda m: variables.get(m[1]) or m[2] or "", value)
    if isinstance(value, list):
        return [interpolated(one, variables) for one in value]
    if isinstance(value, dict):
        return {name: interpolated(one, variables) for name, one in value.items()}
    return value


def values() -> dict[str, Any]:
    """deploy/helm/values.yaml."""
    return yaml.safe_load((DEPLOY / "helm" / "values.yaml").read_text())  # type: ignore[no-any-return]
