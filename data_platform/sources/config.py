"""What `sources.yaml` says about each source: names of columns, how files are read, what deliveries mean.

What belongs here: the shape of the file and the sentences about its mistakes. Which columns an entity has is the
contracts' business and is handed in by the caller.
"""

import difflib
import re
from collections.abc import Collection, Hashable, Mapping
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, get_args
from zoneinfo import ZoneInfo

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from data_platform.errors import SettingsError
from data_platform.sources.files_config import Complete, FilesSource
from data_platform.sources.lakehouse import DeltaSource, IcebergSource
from data_platform.sources.rest_config import RestSource
from data_platform.sources.sql import SqlSource

Entity = Literal["orders", "products", "customers"]
ENTITIES: tuple[Entity, ...] = get_args(Entity)
Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
WEEKDAYS: tuple[Weekday, ...] = get_args(Weekday)  # in the order of date.weekday()

# What a source may be asked by, instead of putting files into the landing folder: the keys of sources.yaml.
Asked = RestSource | SqlSource | FilesSource | DeltaSource | IcebergSource
KINDS = ("rest", "sql", "files", "delta", "iceberg")
# Of landing files there is one name of a manifest: what the platform reads (manifest.py).
LANDING_MANIFEST = "{date}.manifest.json"
_ORDERS_ONLY = frozenset({"unit", "order_floor"})
_NAMES = frozenset({"entity", "name", "sources"})  # which the place in the file tells
_ENTITY_WIDE = (
    "mode", "unit", "currency", "closed_on", "reject_share", "reject_rows", "accept_deletions", "deletion_share",
    "deletion_rows",
)  # fmt: skip
_HISTORY_ONLY = frozenset({"mode", "accept_deletions", "deletion_share", "deletion_rows"})
# What Polars (chrono) reads; a format with anything else would turn every value into null.
_DIRECTIVE = re.compile(r"%[-_0]?[YCyqmbBhdeaAwuUWGgVjDxFvHkIlPpMSfRTXrcstnz%+]|%\.[369]?f|%[369]f|%:{1,3}z|%#z")
_SPELLED_OUT = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|"}


class _Model(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", populate_by_name=True, strict=False, hide_input_in_errors=True
    )


def _as_text(value: object) -> object:
    """A constant as the text that a file would hold: YAML reads `2024-01-05`, `5` and `true` as other types."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float, date)):
        return str(value)
    return value


class ColumnSpec(_Model):
    """Where one canonical column comes from, and how its texts are read.

    `source` (in YAML: `from`) is the delivered name, None where the canonical name is delivered; `constant` stands
    for a column that is not delivered at all. `format` is a strftime format for dates and time stamps, `timezone`
    the zone of naive time stamps (None: the business time zone), `prefix` goes before every id.
    """

    source: str | None = Field(default=None, alias="from", min_length=1)
    constant: Annotated[str | None, BeforeValidator(_as_text)] = None
    format: str | None = Field(default=None, min_length=1)
    decimal: Literal["point", "comma"] = "point"
    timezone: str | None = None
    prefix: str | None = Field(default=None, min_length=1)

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                ZoneInfo(value)
            except (KeyError, ValueError, OSError):
                raise ValueError(
                    f"{value!r} is no time zone known here: use an IANA name such as Europe/London"
                ) from None
        return value

    @field_validator("format")
    @classmethod
    def _a_format(cls, value: str | None) -> str | None:
        if value is None:
            return None
        directives = _DIRECTIVE.findall(value)
        if not directives or "%" in _DIRECTIVE.sub("", value):
            raise ValueError(f"{value!r} is no strftime format: write one such as '%d/%m/%Y %H:%M:%S'")
        if "%f" in directives:
            raise ValueError(f"{value!r} would read fractions as nanoseconds: write %.f, which takes the point as well")
        return value

    @model_validator(mode="after")
    def _delivered_or_constant(self) -> "ColumnSpec":
        if self.source is not None and self.constant is not None:
            raise ValueError("it has both `from` and `constant`: keep the one that is meant")
        return self


def _as_spec(value: object) -> object:
    return {"from": value} if isinstance(value, str) else value


class Source(_Model):
    """One source of an entity: its columns, how its files are read, and what its deliveries mean.

    `unit` None means: by whether line_number is delivered. A delivery with more than `reject_share` *and* at least
    `reject_rows` quarantined rows is rejected; a full delivery lacking more than `deletion_share` *and* at least
    `deletion_rows` known keys as well, unless its day is in `accept_deletions`. `order_floor` is the earliest order
    date. `currency` None means that rows are not asked for theirs. On weekdays in `closed_on` nothing is expected.
    `schema_changes` says what becomes of columns that are not declared: `evolve` takes the delivery and shows them,
    `freeze` rejects it, `quarantine` sets the rows with a value in them aside; what is in `ignore` is not wanted.
    `rest`, `sql`, `files`, `delta` or `iceberg` says where to ask for deliveries; else they lie in the landing folder,
    and `complete` says when those of a day are whole, for the sensor to ask for it: default `unchanged_for: 60s`.
    `sources` (by name) are several sources of one entity, such as a web shop and tills: each has the keys of its
    entity unless it has its own, and a partition holds what all of them delivered.
    """

    entity: Entity
    columns: dict[str, Annotated[ColumnSpec, BeforeValidator(_as_spec)]] = Field(default_factory=dict)
    delimiter: str = ","
    encoding: str = "utf8"
    quote: str | None = '"'
    unit: Literal["line", "order"] | None = None
    exact_copies: Literal["drop", "keep"] = "drop"
    mode: Literal["changes", "full"] = "changes"
    reject_share: float = Field(default=0.05, ge=0, le=1)
    reject_rows: int = Field(default=10, ge=0)
    accept_deletions: tuple[date, ...] = ()
    deletion_share: float = Field(default=0.20, ge=0, le=1)
    deletion_rows: int = Field(default=10, ge=0)
    order_floor: date = date(2000, 1, 1)
    currency: str | None = Field(default=None, min_length=1)
    closed_on: tuple[Weekday, ...] = ()
    schema_changes: Literal["evolve", "freeze", "quarantine"] = "evolve"
    ignore: tuple[str, ...] = ()
    rest: RestSource | None = None
    sql: SqlSource | None = None
    files: FilesSource | None = None
    delta: DeltaSource | None = None
    iceberg: IcebergSource | None = None
    complete: Complete | None = None
    name: str = Field(default="", pattern=r"^([a-z][a-z0-9_]*)?$")
    sources: dict[str, "Source"] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _handed_down(cls, declared: Any) -> Any:
        """What an entity says holds for each of its `sources`, unless that says otherwise."""
        if not isinstance(declared, dict) or not isinstance(declared.get("sources"), dict):
            return declared
        shared = {key: value for key, value in declared.items() if key not in ("sources", "name")}
        parts = {}
        for name, part in declared["sources"].items():
            if part is not None and not isinstance(part, dict):
                raise ValueError(f"`sources: {name}:` must hold keys such as `columns:`")
            for key in _NAMES & set(part or {}):
                raise ValueError(f"`sources: {name}: {key}` is no key: take it out")
            own = {**shared, **(part or {})}
            if isinstance(shared.get("columns"), dict) and isinstance(own.get("columns"), dict):
                own["columns"] = {**shared["columns"], **own["columns"]}
            if any(own.get(kind) is not None for kind in KINDS) and "complete" not in (part or {}):
                own.pop("complete", None)  # what is said of landing files is not said of what is asked
            parts[name] = {**own, "name": name}
        return {**declared, "sources": parts}

    @property
    def folder(self) -> str:
        """Where its deliveries lie, below the landing folder and below the archive."""
        return f"{self.entity}/{self.name}" if self.name else self.entity

    @property
    def place(self) -> str:
        """How sources.yaml calls it."""
        return f"{self.entity}.sources.{self.name}" if self.name else self.entity

    @property
    def asked(self) -> tuple[str, Asked] | None:
        """What is asked for deliveries, with its key in sources.yaml; None where files lie in the landing folder."""
        kinds = [(kind, config) for kind in KINDS if (config := getattr(self, kind)) is not None]
        return kinds[0] if kinds else None

    def is_expected(self, day: date) -> bool:
        """Whether the source delivers on that day: it is not one of its closed weekdays."""
        return WEEKDAYS[day.weekday()] not in self.closed_on

    @field_validator("delimiter")
    @classmethod
    def _one_delimiter(cls, value: str) -> str:
        value = _SPELLED_OUT.get(value, value)
        if len(value) != 1 or not value.isascii() or value.isalnum() or value in '\r\n"\0':
            raise ValueError('it must be one ASCII character that is no letter, digit or quote, such as ";" or "\\t"')
        return value

    @field_validator("quote")
    @classmethod
    def _one_quote(cls, value: str | None) -> str | None:
        if not value:
            return None
        if len(value) != 1 or not value.isascii() or value.isalnum() or value.isspace() or value == "\0":
            raise ValueError("it must be one ASCII character such as '\"', or empty where nothing is quoted")
        return value

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, value: str) -> str:
        # LookupError stands for codecs that are unknown and for those that make no text (hex, rot13).
        try:
            b" ".decode(value)
        except UnicodeError:
            return value  # such as utf-16, of which one byte is half a character
        except LookupError:
            raise ValueError(f"{value!r} is no text encoding known here: use utf8, latin-1, cp1252 or utf-16") from None
        return value

    @model_validator(mode="after")
    def _fits_the_entity(self) -> "Source":
        foreign = _HISTORY_ONLY if self.entity == "orders" else _ORDERS_ONLY
        for key in sorted(foreign & self.model_fields_set):
            owner = "products and customers" if self.entity == "orders" else "orders"
            raise ValueError(f"`{key}` is a setting of {owner} only: take it out of {self.place}")
        kinds = [kind for kind in KINDS if getattr(self, kind) is not None]
        if len(kinds) > 1:
            raise ValueError(f"it has {' and '.join(f'`{kind}`' for kind in kinds)}: a source is one of them")
        if self.sources and kinds:
            raise ValueError(f"it has `{kinds[0]}` beside `sources`: put it into one of them")
        if self.sources and self.name:
            raise ValueError("a source of several has `sources` of its own: name them all at the entity")
        self._completes_landing_files()
        for key in _ENTITY_WIDE if self.sources else ():
            # A partition is judged as a whole, and has one unit and one currency.
            if any(getattr(part, key) != getattr(self, key) for part in self.sources.values()):
                raise ValueError(
                    f"`{key}` of one of its `sources` is another than the entity's: set it once, beside them"
                )
        if self.delimiter == self.quote:
            raise ValueError("`delimiter` and `quote` are the same character: change one of them")
        return self

    def _completes_landing_files(self) -> None:
        if self.complete is None:
            return
        if self.files is not None:
            raise ValueError("`complete` beside `files` is for files in the landing folder: put it under `files:`")
        if self.asked is not None or (self.sources and all(part.asked for part in self.sources.values())):
            kind = self.asked[0] if self.asked else "sources"
            raise ValueError(f"`complete` is for files in the landing folder, and `{kind}` is asked: take it out")
        if self.complete.manifest not in (None, LANDING_MANIFEST):
            raise ValueError(
                f"the manifest of landing files is {LANDING_MANIFEST}: write `complete: {{manifest: "
                f'"{LANDING_MANIFEST}"}}`, or name any other file as `marker`'
            )

    def spec(self, column: str) -> ColumnSpec:
        """The spec of a canonical column; the default one (delivered under its own name) where none is given."""
        return self.columns.get(column, _DEFAULT_SPEC)


_DEFAULT_SPEC = ColumnSpec()


def load_sources(path: Path, entity_columns: Mapping[str, Collection[str]] | None = None) -> dict[str, Source]:
    """The source of each of the three entities, by entity; an absent file gives every entity its defaults.

    `entity_columns` (entity → canonical column names), where given, refuses a `columns` key that names no column of
    its entity. Raises SettingsError in one sentence naming the file, the key and the mend.
    """
    declared = _read_yaml(path)
    for name in declared:
        if name not in ENTITIES:
            raise SettingsError(
                f"{path}: {name!r} is no entity{_nearest(str(name), ENTITIES)}: use {_listed(ENTITIES)}."
            )
    sources: dict[str, Source] = {entity: _source(path, entity, declared.get(entity)) for entity in ENTITIES}
    for source in (one for whole in sources.values() for one in (whole, *whole.sources.values())):
        entity = source.entity
        known = (entity_columns or {}).get(entity, source.columns)
        for column in source.columns:
            if column not in known:
                raise SettingsError(
                    f"{path}: {source.place}.columns.{column} names no column of {entity}{_nearest(column, known)}: "
                    f"write the canonical name on the left and the delivered one on the right."
                )
    return sources


def _source(path: Path, entity: Entity, declared: object) -> Source:
    if declared is None:
        return Source(entity=entity)
    if not isinstance(declared, dict):
        raise SettingsError(
            f"{path}: {entity} must hold keys such as `columns:` or `delimiter:`, one a line and indented."
        )
    for key in ("entity", "name"):
        if key in declared:
            raise SettingsError(f"{path}: {entity}.{key} is no key: the place in the file tells it; take it out.")
    try:
        return Source.model_validate({**declared, "entity": entity})
    except ValidationError as error:
        raise SettingsError(_sentence(path, entity, error)) from None


def _sentence(path: Path, entity: str, error: ValidationError) -> str:
    first: Mapping[str, Any] = error.errors(include_url=False)[0]
    location = [str(part) for part in first["loc"]]
    key = ".".join([entity, *location])
    if first["type"] == "extra_forbidden":
        allowed = _keys_at(Source, location[:-1])
        return f"{path}: {key} is no known key{_nearest(location[-1], allowed)}: use {_listed(sorted(allowed))}."
    if first["type"] == "value_error":
        return f"{path}: {key} cannot be used: {first['ctx']['error']}."
    if first["type"] in ("model_type", "model_attributes_type"):
        return f"{path}: {key} must be the name of a delivered column, or keys such as `from:` or `constant:`."
    return f"{path}: {key} cannot be used: {str(first['msg'])[0].lower()}{str(first['msg'])[1:]}."


def _keys_at(model: type[BaseModel], location: list[str]) -> list[str]:
    """The keys that the model at `location` below `model` takes."""
    for part in location:
        fields = {field.alias or name: field for name, field in model.model_fields.items()}
        inner = _models_in(fields[part].annotation) if part in fields else []
        if len(inner) == 1:  # a part that names no field is a key of a mapping, or the member of a union
            model = inner[0]
        else:
            model = next((one for one in inner or _models_in(model) if one.__name__ == part), model)
    return [field.alias or name for name, field in model.model_fields.items() if name not in ("entity", "name")]


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    """The models that a type is made of."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models_in(part)]


def _nearest(word: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean {near[0]}?)" if near else ""


def _listed(words: Collection[str]) -> str:
    *most, last = words
    return f"{', '.join(most)} or {last}" if most else last


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML lets a later key silently replace an earlier one; a configuration must not."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[object] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable):
                if key in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key!r} is given twice", key_node.start_mark
                    )
                seen.add(key)
        mapping: dict[Hashable, Any] = super().construct_mapping(node, deep)
        return mapping


def _read_yaml(path: Path) -> dict[Any, Any]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return {}
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path} is not UTF-8 (byte {error.start}): save it as UTF-8.") from None
    except OSError as error:
        raise SettingsError(
            f"{path} cannot be read ({error.strerror}): make it a file that this user may read."
        ) from None
    try:
        content = _UniqueKeyLoader(text).get_single_data()
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise SettingsError(f"{path}{line} is not valid YAML ({error.problem}): mend that line.") from None
    except (yaml.YAMLError, RecursionError, ValueError):
        raise SettingsError(f"{path} is not valid YAML: mend it, or take it away to use the defaults.") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise SettingsError(f"{path} must hold one key per entity at its left edge: {_listed(ENTITIES)}.")
    return content
