"""The JSON Schema of `studiolo.yaml`, for editors that complete and check as one types."""

from __future__ import annotations

from typing import Any

from studiolo.spec.document import Workspace

DIALECT = "https://json-schema.org/draft/2020-12/schema"

_REFERENCE = {"type": "string", "pattern": r"\$\{params\.[^}]+\}"}


def json_schema() -> dict[str, Any]:
    """JSON Schema, draft 2020-12, of what a person writes. A new dictionary at each call."""
    schema = Workspace.model_json_schema()
    definitions = schema.pop("$defs", {})
    # A parameter may stand wherever text does, except where parameters are declared.
    described = {
        name: definition if name == "Param" else _with_references(definition)
        for name, definition in definitions.items()
    }
    properties = {
        name: field if name == "params" else _with_references(field) for name, field in schema["properties"].items()
    }
    for field in properties.values():
        if "patternProperties" in field:
            field["additionalProperties"] = False
    return {
        "$schema": DIALECT,
        **schema,
        "title": "Studiolo workspace",
        "description": "A workspace: environment, data sources, compute and apps. Known as studiolo.yaml.",
        "properties": properties,
        "$defs": described,
    }


def _with_references(schema: Any) -> Any:
    """Let `${params.NAME}` through where a pattern or a choice would refuse it."""
    if isinstance(schema, list):
        return [_with_references(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("type") == "string" and ("pattern" in schema or "enum" in schema):
        about = {key: schema[key] for key in ("title", "description", "default") if key in schema}
        rule = {key: value for key, value in schema.items() if key not in about}
        return {**about, "anyOf": [rule, _REFERENCE]}
    return {key: _with_references(value) for key, value in schema.items()}
