from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.reports.schema import find_fault, report_schema
from tests.stages.reports.test_report import report


def test_a_report_fits_the_published_schema() -> None:
    assert find_fault(report(), report_schema()) is None


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of everything inside a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(place for key, item in inner for place in places(item, (*at, key)))]


def changed(value: Any, place: tuple[Any, ...], new: Any) -> Any:
    """A copy with the item at `place` replaced, or left out for `new` = KeyError."""
    value = copy.deepcopy(value)
    if not place:
        return new
    inner = value
    for key in place[:-1]:
        inner = inner[key]
    if new is KeyError:
        del inner[place[-1]]
    else:
        inner[place[-1]] = new
    return value


PLACES = places(report())
VALUES = st.sampled_from([KeyError, None, True, -1, 0, 0.5, 1.0, 7, "", "text", [], [1, 2], {}, {"a": 1}])


@given(place=st.sampled_from(PLACES[1:]), new=VALUES)
def test_faults_are_those_that_another_validator_finds(place: tuple[Any, ...], new: Any) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    record = changed(report(), place, new)
    sound = jsonschema.Draft202012Validator(report_schema()).is_valid(record)
    assert (find_fault(record, report_schema()) is None) == sound


def test_the_schema_is_a_schema() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator.check_schema(report_schema())


def test_what_the_validator_does_not_know_is_not_in_the_schema() -> None:
    known = {"$ref", "const", "type", "minimum", "maximum", "minItems", "maxItems", "items", "required", "properties"}
    told = {"$schema", "$defs", "title", "description", "additionalProperties"}

    def keywords(schema: Any) -> set[str]:
        if not isinstance(schema, dict):
            return set()
        inner = [*schema.get("properties", {}).values(), *schema.get("$defs", {}).values(), schema.get("items")]
        return set(schema).union(*map(keywords, [*inner, schema.get("additionalProperties")]))

    assert keywords(report_schema()) <= known | told


@pytest.mark.parametrize(
    ("place", "new", "says"),
    [
        (("results", 0, "clean", "low"), 1.5, "results[0].clean.low is 1.5, out of range"),
        (("results", 0, "attacks", "pgd-20", "low"), KeyError, "results[0].attacks.pgd-20 lacks 'low'"),
        (("models", 0), "run", "models[0] is string, expected object"),
        (("rows",), {"file": "x", "sha256": "y", "z": 1}, "rows has the unknown entry 'z'"),
    ],
)
def test_a_fault_names_its_place(place: tuple[Any, ...], new: Any, says: str) -> None:
    assert find_fault(changed(report(), place, new), report_schema()) == says
