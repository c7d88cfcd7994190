"""The JSON Schema that editors read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from studiolo.spec.document import App, Compute, DataSource, Environment, Idle, Param, Workspace
from studiolo.spec.schema import DIALECT, json_schema


def _objects(schema: Any) -> Iterator[dict[str, Any]]:
    if isinstance(schema, dict):
        yield schema
        for value in schema.values():
            yield from _objects(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from _objects(value)


def test_it_is_plain_json_of_a_named_dialect() -> None:
    schema = json_schema()
    assert schema["$schema"] == DIALECT
    assert json.loads(json.dumps(schema)) == schema


def test_every_field_is_there_and_described() -> None:
    schema = json_schema()
    described = {"Workspace": schema, **schema["$defs"]}
    for model in (Workspace, Environment, App, DataSource, Compute, Idle, Param):
        properties = described[model.__name__]["properties"]
        assert set(properties) == set(model.model_fields)
        for name, field in properties.items():
            assert field.get("description"), f"{model.__name__}.{name}"


def test_unknown_keys_are_errors_in_the_editor_too() -> None:
    schema = json_schema()
    named = [schema["properties"]["env"], schema["properties"]["params"]]
    for section in (schema, *schema["$defs"].values(), *named):
        assert section["additionalProperties"] is False


def test_every_reference_leads_somewhere() -> None:
    schema = json_schema()
    references = {found["$ref"] for found in _objects(schema) if "$ref" in found}
    assert references
    assert references <= {f"#/$defs/{name}" for name in schema["$defs"]}


def test_a_parameter_may_stand_where_a_pattern_would_refuse_it() -> None:
    schema = json_schema()
    kinds = schema["$defs"]["App"]["properties"]["kind"]["anyOf"]
    assert any("params" in kind.get("pattern", "") for kind in kinds)
    assert schema["$defs"]["Param"]["properties"]["type"]["enum"] == ["str", "int", "float", "bool"]


def test_a_call_gives_a_schema_of_its_own() -> None:
    json_schema()["properties"].clear()
    assert json_schema()["properties"]
