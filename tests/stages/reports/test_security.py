"""Security curves of reports."""

from __future__ import annotations

from stages.reports.parts import names_apart
from stages.reports.records import Report
from stages.reports.security import security_curves, security_table
from tests.stages.reports.test_report import report


def of(eps: str, sha256: str, anchors: str | None = None) -> Report:
    """A report of a checkpoint at this eps."""
    found = report()
    assert found.threat is not None
    model = found.models[0].model_copy(update={"sha256": sha256})
    identity = {"inputs": {"anchors": anchors}} if anchors else None
    threat = found.threat.model_copy(update={"eps": eps})
    return found.model_copy(update={"models": [model], "threat": threat, "identity": identity})


def test_models_of_one_name_are_told_apart() -> None:
    models = {"a": ("a" * 64, "c" * 64), "b": ("b" * 64, None), "other anchors": ("a" * 64, "d" * 64)}
    reports = {f"{name} {eps}": of(f"{eps}/255", *model) for name, model in models.items() for eps in (4, 8)}
    (curves,) = security_curves(reports)
    name = report().models[0].name
    rows = [f"{name} {'a' * 12}, anchors {'c' * 12}", f"{name} {'b' * 12}", f"{name} {'a' * 12}, anchors {'d' * 12}"]
    assert list(dict.fromkeys(row[0] for row in security_table(curves).rows)) == rows
    (alone,) = security_curves({name: one for name, one in reports.items() if name.startswith("b")})
    assert {curve.model for curve in alone} == {name}


def test_names_have_only_what_tells_them_apart() -> None:
    first, second, anchors, others = "1" * 64, "2" * 64, "a" * 64, "b" * 64
    shown = {
        (("laat", first, anchors), ("trades", second, anchors)): ["laat", "trades"],
        (("laat", first, anchors), ("again", first, anchors)): ["laat", "again"],
        (("last", first, anchors), ("last", second, anchors)): ["last 111111111111", "last 222222222222"],
        (("laat", first, anchors), ("laat", first, others)): ["laat, anchors aaaaaaaaaaaa", "laat, anchors bbbbbbbbbbbb"],
    }
    for models, names in shown.items():
        assert [*names_apart(models).values()] == names
