"""Files of declarations (alerts.yaml, prices.yaml, retention.yaml): read as YAML, each mistake told in a sentence."""

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from data_platform.errors import SettingsError

# What `read_yaml` returns where there is no file; a file of comments alone holds None.
ABSENT = object()


class UniqueKeyLoader(yaml.SafeLoader):
    """YAML lets a later key silently replace an earlier one of the same name; a declaration must not."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        names = [key.value for key, _ in node.value]
        for name in names:
            if names.count(name) > 1:
                raise yaml.constructor.ConstructorError(None, None, self.twice(name), node.start_mark)
        mapping: dict[Hashable, Any] = super().construct_mapping(node, deep)
        return mapping

    def twice(self, name: str) -> str:  # noqa: ARG002
        """What is said of a key that is given twice."""
        return "a key is given twice"


def read_yaml(path: Path, *, without: str, loader: type[yaml.SafeLoader] = UniqueKeyLoader) -> Any:
    """What the file holds, ABSENT where there is none.

    Raises SettingsError in one sentence naming the file, the line and the mend; `without` says what holds without it.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return ABSENT
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path} is not UTF-8 (byte {error.start}): save it as UTF-8.") from None
    except OSError as error:
        raise SettingsError(f"{path} cannot be read ({error.strerror}): let this user read it.") from None
    try:
        return loader(text).get_single_data()
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise SettingsError(f"{path}{line} is not valid YAML ({error.problem}): mend that line.") from None
    except (yaml.YAMLError, RecursionError, ValueError):
        raise SettingsError(f"{path} is not valid YAML: mend it, or take it away to {without}.") from None
