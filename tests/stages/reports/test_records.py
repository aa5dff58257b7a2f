"""What a report must be: of the published schema, and without figures that contradict each other."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from stages.files.records import first_fault
from stages.reports.records import Report, report_schema
from tests.stages.reports.test_plots import gzsl_report
from tests.stages.reports.test_report import EPISODES, report

ALL_WAY, IN_EPISODES, GZSL = (one.to_record() for one in (report(), report(EPISODES), gzsl_report()))


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of everything inside a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(place for key, item in inner for place in places(item, (*at, key)))]


def changed(record: dict[str, Any], place: tuple[Any, ...], new: Any) -> dict[str, Any]:
    """A copy with the item at `place` replaced, or left out for `new` = KeyError."""
    record = copy.deepcopy(record)
    inner: Any = record
    for key in place[:-1]:
        inner = inner[key]
    if new is KeyError:
        del inner[place[-1]]
    else:
        inner[place[-1]] = new
    return record


def fault(record: dict[str, Any]) -> str | None:
    try:
        Report.model_validate_json(json.dumps(record))
    except ValidationError as error:
        return first_fault(error)
    return None


@pytest.mark.parametrize("record", [ALL_WAY, IN_EPISODES, GZSL])
def test_a_report_fits_its_types_and_the_published_schema(record: dict[str, Any]) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator.check_schema(report_schema())
    jsonschema.Draft202012Validator(report_schema()).validate(record)
    assert fault(record) is None


VALUES = st.sampled_from([KeyError, None, True, -1, 0, 0.5, 7, "", "text", [], [1, 2], {}, {"a": 1}])


@given(place=st.sampled_from(places(ALL_WAY)[1:]), new=VALUES)
def test_what_the_schema_refuses_is_refused(place: tuple[Any, ...], new: Any) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    record = changed(ALL_WAY, place, new)
    if not jsonschema.Draft202012Validator(report_schema()).is_valid(record):
        assert fault(record) is not None


FIRST = ("results", 0)


@pytest.mark.parametrize(
    ("record", "place", "new", "says"),
    [
        (ALL_WAY, (*FIRST, "clean", "low"), 1.5, "results[0].clean.low is 1.5: input should be less than or equal to 1"),
        (ALL_WAY, (*FIRST, "clean", "low"), 0.8, "results[0].clean: accuracy 0.75 is outside its interval, 0.8 to 0."),
        (ALL_WAY, (*FIRST, "attacks", "pgd-20", "low"), KeyError, "results[0].attacks.pgd-20 lacks 'low'"),
        (ALL_WAY, ("models", 0), "run", 'models[0] is "run": input should be an object'),
        (ALL_WAY, ("rows",), {"file": "x", "sha256": "y", "z": 1}, "rows has the unknown entry 'z'"),
        (ALL_WAY, (*FIRST, "clean", "accuracy"), 0.7, "results[0]: clean accuracy 0.7 is no share of 4 points"),
        (ALL_WAY, (*FIRST, "attacks", "pgd-20", "accuracy"), 0.25, "results[0]: pgd-20 accuracy 0.25 is not between"),
        (ALL_WAY, (*FIRST, "chance"), 0.5, "results[0]: chance 0.5 is not 1 of 16 ways"),
        (ALL_WAY, (*FIRST, "classes"), 3, "results[0]: 16 ways of 3 classes"),
        (ALL_WAY, (*FIRST, "images"), 3, "results[0]: 4 points of 3 images"),
        (ALL_WAY, (*FIRST, "model"), "other", "results[0] is of 'other', which is not among the models"),
        (ALL_WAY, ("models",), ALL_WAY["models"] * 2, "the model 'run' is given twice"),
        (ALL_WAY, ("results",), ALL_WAY["results"] * 2, "the result 'run, novel, all-way' is given twice"),
        (ALL_WAY, ("attacks", 0, "name"), "fgsm", "results[0] has other attacks than the report: pgd-20"),
        (ALL_WAY, ("threat",), None, "results[0] has attacks and the report no threat model"),
        (ALL_WAY, ("protocol", "name"), "gzsl", "results[0] does not fit the protocol"),
        (ALL_WAY, ("protocol", "name"), "episodes", "protocol: episodes without 'ways'"),
        (ALL_WAY, ("sample",), {"max_images": 3, "max_per_class": None, "seed": 0, "images": 3, "of": 9}, "has more images"),
        (IN_EPISODES, (*FIRST, "points"), 6, "results[0]: clean accuracy 0.75 is no share of 6 points"),
        (IN_EPISODES, ("protocol", "queries"), 2, "results[0] has 4 points, the protocol 8"),
        (IN_EPISODES, ("protocol", "episodes"), 3, "results[0] has 2 episodes of 2 ways, unlike the protocol"),
        (GZSL, (*FIRST, "gzsl", "clean", "H", "accuracy"), 0.0, "results[0].gzsl.clean.H: accuracy 0.0 is outside"),
        (GZSL, (*FIRST, "gzsl", "clean", "ausuc", "area"), 1, "results[0].gzsl.clean.ausuc: area 1.0 is outside"),
        (GZSL, (*FIRST, "gzsl", "seen_classes"), 4, "results[0]: seen and novel classes do not add up"),
        (GZSL, (*FIRST, "gzsl", "curves", "worst"), KeyError, "results[0].gzsl: the curves are not those of clean, each"),
        (GZSL, (*FIRST, "gzsl", "curves", "clean", "bias"), [0.0], "gzsl.curves.clean: bias, seen and novel differ in length"),
    ],
)
def test_a_fault_is_named_with_its_place(record: dict[str, Any], place: tuple[Any, ...], new: Any, says: str) -> None:
    assert says in str(fault(changed(record, place, new)))


def test_checks_are_of_results() -> None:
    entry = {
        "findings": [{"name": "loss", "result": "pass", "figures": {}, "sentence": ""}],
        **{"group": "novel", "model": "run", "protocol": "all-way", "sample": {"of": 3, "points": 2, "seed": 0}},
    }
    assert fault({**ALL_WAY, "checks": [entry]}) is None
    assert "which is no result" in str(fault({**ALL_WAY, "checks": [{**entry, "group": "seen"}]}))
    sample = {"of": 1, "points": 2, "seed": 0}
    assert "checks[0].sample: 2 points of 1" in str(fault({**ALL_WAY, "checks": [{**entry, "sample": sample}]}))
