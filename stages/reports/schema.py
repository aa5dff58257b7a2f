"""The published JSON schema of reports, and what of JSON Schema (draft 2020-12) it takes to check a report against it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "null": (type(None),),
}


@cache
def report_schema() -> dict[str, Any]:
    """The schema, stages/reports/report.schema.json."""
    text = resources.files("stages.reports").joinpath("report.schema.json").read_text(encoding="utf-8")
    return dict(json.loads(text))


def find_fault(value: Any, schema: Mapping[str, Any], root: Mapping[str, Any] | None = None, at: str = "") -> str | None:
    """The first thing about `value` that `schema` does not allow, as 'results[0].clean: …'; None when it fits.

    Knows the keywords that report.schema.json uses. `root` is where references look, `schema` itself by default.
    """
    root = schema if root is None else root
    if "$ref" in schema:
        return find_fault(value, root["$defs"][schema["$ref"].rpartition("/")[2]], root, at)
    where = at or "it"
    fault = None
    if "const" in schema and value != schema["const"]:
        fault = f"{where} is {value!r}, expected {schema['const']!r}"
    elif "type" in schema and not _is(value, schema["type"]):
        fault = f"{where} is {_kind(value)}, expected {schema['type']}"
    elif isinstance(value, int | float) and not schema.get("minimum", value) <= value <= schema.get("maximum", value):
        fault = f"{where} is {value!r}, out of range"
    elif isinstance(value, list) and not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
        fault = f"{where} has {len(value)} items"
    elif isinstance(value, list):
        faults = (find_fault(item, schema.get("items", {}), root, f"{at}[{index}]") for index, item in enumerate(value))
        fault = next((found for found in faults if found), None)
    elif isinstance(value, dict):
        fault = _object_fault(value, schema, root, at)
    return fault


def _object_fault(value: dict[str, Any], schema: Mapping[str, Any], root: Mapping[str, Any], at: str) -> str | None:
    missing = [key for key in schema.get("required", ()) if key not in value]
    if missing:
        return f"{at or 'it'} lacks '{missing[0]}'"
    known, others = schema.get("properties", {}), schema.get("additionalProperties", {})
    for key, item in value.items():
        rule = known.get(key, others)
        if rule is False:
            return f"{at or 'it'} has the unknown entry '{key}'"
        fault = find_fault(item, rule, root, f"{at}.{key}" if at else key)
        if fault:
            return fault
    return None


def _is(value: Any, wanted: str | list[str]) -> bool:
    names = [wanted] if isinstance(wanted, str) else wanted
    return _kind(value) in names or ("number" in names and _kind(value) == "integer")


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, float) and value.is_integer():  # 1.0 is an integer in JSON Schema
        return "integer"
    return next(name for name, types in _TYPES.items() if isinstance(value, types))
