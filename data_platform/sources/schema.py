"""The JSON schema of sources.yaml, for editors: made from the same models that the platform reads it by."""

from collections.abc import Mapping
from typing import Any

from data_platform.contracts import STAGED
from data_platform.sources.config import Source
from data_platform.transforms.staging import delivered_columns

DIALECT = "https://json-schema.org/draft/2020-12/schema"
# Names of the code, not of the file.
_INNER = ("entity", "name")


def json_schema() -> dict[str, Any]:
    """One object with a key an entity; columns are those of its contract."""
    definitions = Source.model_json_schema(ref_template="#/$defs/{model}")["$defs"]
    of_source = definitions.pop("Source")
    entities = {}
    for entity, contract in STAGED.items():
        one = _of_entity(of_source, delivered_columns(contract))
        several = one["properties"].pop("sources")
        definitions[f"source_of_{entity}"] = one
        of_name = {"type": "object", "additionalProperties": {"$ref": f"#/$defs/source_of_{entity}"}}
        described = {name: several[name] for name in ("title", "description") if name in several}
        entities[entity] = {**one, "properties": {**one["properties"], "sources": {**described, **of_name}}}
    return {
        "$schema": DIALECT,
        "title": "sources.yaml of the data platform",
        "type": "object",
        "additionalProperties": False,
        "properties": entities,
        "$defs": definitions,
    }


def _of_entity(schema: Mapping[str, Any], columns: list[str]) -> dict[str, Any]:
    properties = {name: found for name, found in schema["properties"].items() if name not in _INNER}
    # A name alone is a short form: `order_id: BelegNr`.
    of_column = {"anyOf": [{"type": "string"}, properties["columns"]["additionalProperties"]]}
    properties["columns"] = {
        "type": "object",
        "additionalProperties": False,
        "properties": dict.fromkeys(columns, of_column),
    }
    kept = {name: found for name, found in schema.items() if name != "required"}
    return {**kept, "type": "object", "additionalProperties": False, "properties": properties}
