from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stages.attacks.spec import parse_attacks
from stages.errors import InputError, LaatError, UsageError
from stages.evaluation.protocol import Protocol
from stages.files.records import json_digest
from stages.reports.compare import Source, compare_reports, comparison_tables
from stages.reports.model_records import Model
from stages.reports.report import make_report, with_rows
from stages.reports.results import GroupResult, Row
from stages.reports.row_file import default_rows_path
from stages.reports.tables import render
from stages.statistics.gzsl import GzslFigures
from stages.statistics.paired import paired_episodes, paired_images
from stages.threat import ThreatModel
from tests.stages.evaluation.models import Channels, evaluate
from tests.stages.evaluation.test_score import NAMES, THREAT, noisy_group

EPISODES = Protocol("episodes", ways=2, shots=1, queries=5, episodes=12, seed=3)
BOTH = ("fgsm", "pgd-2")


def leaning(factor: float) -> Channels:
    model = Channels(0.38)
    with torch.no_grad():
        model.weight[1, 1] = factor
    return model


def save(
    path: Path,
    models: dict[str, float],
    protocol: Protocol = Protocol(),  # noqa: B008
    attacks: tuple[str, ...] = BOTH,
    threat: ThreatModel = THREAT,
    data: str = "ab",
    groups: tuple[str, ...] = ("novel",),
    seen: int = 0,
    change: dict[str, Any] | None = None,
) -> list[GroupResult]:
    """A report of models that lean to green by a factor each, with its rows; the first `seen` classes are seen."""
    specs = parse_attacks(attacks)
    images = replace(noisy_group(), seen=seen)
    rows = [
        Row(name, group, evaluate(leaning(factor), images, protocol, specs, threat), NAMES)
        for group in groups
        for name, factor in models.items()
    ]
    report = make_report(
        models=[Model(name=name, sha256=f"{name} sha", objective="laat", anchors="text") for name in models],
        data={"source": "shapes", "sha256": data * 32},
        protocol=protocol.to_record(),
        attacks=specs,
        threat=threat if attacks else None,
        seed=0,
        rows=rows,
    )
    made, files = with_rows(report, rows, default_rows_path(path), path)
    record = made.to_record() | (change or {})
    record["digest"] = json_digest(json.dumps(record))
    for place, content in {**files, path: json.dumps(record).encode()}.items():
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(content)
    return [row.result for row in rows]


def test_images_are_paired(tmp_path: Path) -> None:
    (one,) = save(tmp_path / "a/report.json", {"raw": 1.0})
    (other,) = save(tmp_path / "b/report.json", {"expanded": 2.0})
    found = compare_reports(Source(tmp_path / "a/report.json"), Source(tmp_path / "b/report.json"))
    assert [measure.measure for measure in found.measures] == ["clean", "fgsm", "pgd-2", "worst"]
    worst = [np.logical_and.reduce(list(result.correct.values())) for result in (one, other)]
    for measure in found.measures:
        first, second = worst if measure.measure == "worst" else (r.correct[measure.measure] for r in (one, other))
        assert measure.models == ("raw", "expanded")
        assert measure.accuracies == (first.mean(), second.mean())
        assert measure.paired == paired_images(first, second)
        assert measure.only == ((first & ~second).sum(), (second & ~first).sum())
        assert (measure.points, measure.episodes) == (60, 0)
    assert any(measure.only[0] + measure.only[1] for measure in found.measures)
    assert found.notes == []


def test_episodes_are_paired(tmp_path: Path) -> None:
    (one,) = save(tmp_path / "a.json", {"raw": 1.0}, EPISODES)
    (other,) = save(tmp_path / "b.json", {"expanded": 2.0}, EPISODES)
    found = compare_reports(Source(tmp_path / "a.json"), Source(tmp_path / "b.json"))
    clean = found.measures[0]
    sides = [result.correct["clean"].reshape(12, -1).mean(1) for result in (one, other)]
    assert clean.paired == paired_episodes(*sides)
    assert clean.episodes == 12
    assert clean.interval == "Student t 95 % over paired episodes; p: paired t"


def test_two_models_of_one_report(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    save(path, {"raw": 1.0, "expanded": 2.0}, groups=("seen", "novel"))
    found = compare_reports(Source.parse(f"{path}:raw"), Source.parse(f"{path}:expanded"))
    assert [(m.group, m.measure) for m in found.measures[::4]] == [("seen", "clean"), ("novel", "clean")]
    with pytest.raises(UsageError, match=r"has several models: raw, expanded; say which: .*report.json:raw"):
        compare_reports(Source(path), Source(path))
    with pytest.raises(UsageError, match="has no model 'rwa'; its models: 'raw'"):
        compare_reports(Source.parse(f"{path}:rwa"), Source.parse(f"{path}:raw"))


def test_models_of_the_same_names_are_paired(tmp_path: Path) -> None:
    for name, factors in (("a.json", (1.0, 2.0)), ("b.json", (1.5, 0.5))):
        save(tmp_path / name, dict(zip(("raw", "expanded"), factors, strict=True)))
    found = compare_reports(Source(tmp_path / "a.json"), Source(tmp_path / "b.json"))
    assert [measure.models for measure in found.measures[::4]] == [("raw", "raw"), ("expanded", "expanded")]


def test_episodes_that_differ_alike_are_compared_by_their_decisions(tmp_path: Path) -> None:
    save(tmp_path / "a.json", {"raw": 1.0}, EPISODES)
    found = compare_reports(Source(tmp_path / "a.json"), Source(tmp_path / "a.json"))
    for measure in found.measures:
        assert measure.interval.startswith("where all episodes differ alike, Newcombe")
        assert measure.paired.low < 0 < measure.paired.high
    (table,) = comparison_tables(found)
    assert table.notes[0] == "the 95 % interval contains 0: novel clean, novel fgsm, novel pgd-2, novel worst"
    assert table.notes[1] == f"[ ] {found.measures[0].interval}; 12 episodes"


def test_a_model_does_not_differ_from_itself(tmp_path: Path) -> None:
    save(tmp_path / "a.json", {"raw": 1.0})
    for measure in compare_reports(Source(tmp_path / "a.json"), Source(tmp_path / "a.json")).measures:
        assert (measure.paired.difference, measure.paired.p, measure.only) == (0, 1, (0, 0))


def test_the_worst_case_is_over_the_attacks_that_both_have(tmp_path: Path) -> None:
    (one,) = save(tmp_path / "a.json", {"raw": 1.0}, attacks=("fgsm", "pgd-2", "cw-linf"))
    save(tmp_path / "b.json", {"raw": 1.0}, attacks=("pgd-2", "fgsm", "margin-pgd-2"))
    found = compare_reports(Source(tmp_path / "a.json"), Source(tmp_path / "b.json"))
    assert [measure.measure for measure in found.measures] == ["clean", "fgsm", "pgd-2", "worst"]
    both = one.correct["fgsm"] & one.correct["pgd-2"]
    assert found.measures[-1].accuracies == (both.mean(), both.mean())
    (note,) = found.notes
    assert note.endswith(": cw-linf, margin-pgd-2")
    save(tmp_path / "c.json", {"raw": 1.0}, attacks=())
    clean_only = compare_reports(Source(tmp_path / "a.json"), Source(tmp_path / "c.json"))
    assert [measure.measure for measure in clean_only.measures] == ["clean"]


def figure(found: GzslFigures, key: str) -> float:
    return found.ausuc.area if key == "AUSUC" else float(getattr(found, key).accuracy)


def test_seen_and_novel_together_are_compared_side_by_side(tmp_path: Path) -> None:
    gzsl = Protocol("gzsl")
    paths = tmp_path / "a.json", tmp_path / "b.json"
    results = [save(path, {"raw": factor}, gzsl, seen=2)[0] for path, factor in zip(paths, (1.0, 2.0), strict=True)]
    found = compare_reports(Source(paths[0]), Source(paths[1]))
    by_name = {measure.measure: measure for measure in found.measures}
    assert list(by_name)[4:8] == ["clean S", "clean U", "clean H", "clean AUSUC"]
    for name in ("clean", *BOTH, "worst"):
        told = [result.gzsl for result in results if result.gzsl is not None]
        sides = [one.clean if name == "clean" else one.worst if name == "worst" else one.attacks[name] for one in told]
        for key in ("S", "U", "H", "AUSUC"):
            measure = by_name[f"{name} {key}"]
            assert measure.accuracies == pytest.approx([figure(side, key) for side in sides], abs=1e-12)
            assert measure.paired.difference == pytest.approx(measure.accuracies[1] - measure.accuracies[0], abs=1e-12)
            assert measure.paired.low <= measure.paired.difference <= measure.paired.high
            assert (measure.only is None) == (key in ("H", "AUSUC"))
    # classes of as many images: S and U are shares of the images of a side
    result_rows = [result.rows for result in results if result.rows is not None]
    own = result_rows[0].label < 2
    right = [rows.correct()["pgd-2"][own] for rows in result_rows]
    paired = by_name["pgd-2 S"].paired
    expected = paired_images(*right)
    assert (paired.difference, paired.low, paired.high) == pytest.approx(
        (expected.difference, expected.low, expected.high), abs=1e-12
    )
    assert paired.p == expected.p
    assert [measure.p for measure in (paired, by_name["clean H"].paired)] != [1, 1]
    mirrored = {measure.measure: measure.paired for measure in compare_reports(*map(Source, paths[::-1])).measures}
    for name, measure in by_name.items():
        assert mirrored[name].p == measure.paired.p
        assert (-mirrored[name].high, -mirrored[name].low) == pytest.approx((measure.paired.low, measure.paired.high))
    shown = [render(table, "markdown") for table in comparison_tables(found)]
    assert "other classes" not in "".join(shown)
    assert "clean AUSUC" in shown[1]
    assert "paired bootstrap draws" in shown[1]
    assert "clean AUSUC" not in shown[0]


def test_a_model_is_no_better_than_itself_on_both_sides(tmp_path: Path) -> None:
    save(tmp_path / "a.json", {"raw": 1.0}, Protocol("gzsl"), seen=2)
    measures = compare_reports(Source(tmp_path / "a.json"), Source(tmp_path / "a.json")).measures
    assert len(measures) == 20
    for measure in measures:
        assert (measure.paired.difference, measure.paired.p) == (0, 1)
        assert measure.paired.low <= 0 <= measure.paired.high


def test_other_seen_classes_are_refused(tmp_path: Path) -> None:
    for name, seen in (("a.json", 2), ("b.json", 1)):
        save(tmp_path / name, {"raw": 1.0}, Protocol("gzsl"), seen=seen)
    with pytest.raises(InputError, match=r"different seen classes: '.*a.json' has .* and '.*b.json' has"):
        compare_reports(Source(tmp_path / "a.json"), Source(tmp_path / "b.json"))


@pytest.mark.parametrize(
    ("other", "says"),
    [
        ({"data": "cd"}, "different data: 'a' has sha256 abab.* and 'b' has sha256 cdcd"),
        ({"threat": ThreatModel(Fraction(4, 255))}, "different threat models: 'a' has Linf 8/255 .* and 'b' has Linf 4/255"),
        ({"protocol": EPISODES}, "different protocols: 'a' has name all-way and 'b' has .*episode_seed 3"),
        ({"groups": ("seen",)}, "different groups of classes: 'a' has novel all-way and 'b' has seen all-way"),
        ({"groups": ("novel", "seen")}, "'a' has novel all-way and 'b' has novel all-way, seen all-way"),
        ({"change": {"suite": "aa-standard"}}, "different suites: 'a' has none and 'b' has aa-standard"),
        ({"change": {"adversarial": {"sha256": "ef"}, "attacks": []}}, "saved adversarial images: .* none and 'b' has ef"),
        ({"change": {"attacks": [{"name": "fgsm", "steps": 2}, {"name": "pgd-2"}]}}, "settings of .*'a' has .*steps"),
        ({"change": {"data": {"source": "shapes"}}}, "'b' does not name its images"),
        ({"change": {"rows": None}}, "was written without its rows; evaluate again with `laat eval`, without `--rows none`"),
    ],
)  # fmt: skip
def test_reports_that_were_not_measured_alike_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: dict[str, Any], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    save(Path("a"), {"raw": 1.0})
    save(Path("b"), {"raw": 1.0}, **other)
    with pytest.raises(InputError, match=says):
        compare_reports(Source(Path("a")), Source(Path("b")))


def test_rows_that_are_not_the_reports_are_refused(tmp_path: Path) -> None:
    first, second = tmp_path / "a.json", tmp_path / "b.json"
    save(first, {"raw": 1.0})
    save(second, {"raw": 2.0})
    rows = default_rows_path(second)
    whole = rows.read_bytes()
    for content, says in (
        (whole[: len(whole) // 2], "its SHA-256 differs"),
        (default_rows_path(first).read_bytes(), "its SHA-256 differs"),
        (None, "does not exist"),
    ):
        if content is None:
            rows.unlink()
        else:
            rows.write_bytes(content)
        with pytest.raises(InputError, match=says):
            compare_reports(Source(first), Source(second))
    record = json.loads(second.read_text())
    for version in (1, 5):
        second.write_text(json.dumps({**record, "schema_version": version}))
        with pytest.raises(LaatError, match=rf"b\.json' has schema version {version}, this laat .* reads 2 to 4"):
            compare_reports(Source(first), Source(second))


def test_other_points_under_the_same_names_are_refused(tmp_path: Path) -> None:
    """The report claims the same protocol as the other, the rows know better."""
    save(tmp_path / "a.json", {"raw": 1.0}, EPISODES)
    save(tmp_path / "b.json", {"raw": 1.0}, replace(EPISODES, seed=4), change={"protocol": EPISODES.to_record()})
    with pytest.raises(InputError, match="are of different points in novel, episodes"):
        compare_reports(Source(tmp_path / "a.json"), Source(tmp_path / "b.json"))


def test_the_record_and_the_table_have_the_same_figures(tmp_path: Path) -> None:
    save(tmp_path / "a.json", {"raw": 1.0})
    save(tmp_path / "b.json", {"expanded": 2.0})
    sources = Source(tmp_path / "a.json"), Source(tmp_path / "b.json")
    found = compare_reports(*sources)
    record = json.loads(json.dumps(found.to_record(), allow_nan=False))
    assert record["reports"] == [str(source.path) for source in sources]
    (table,) = comparison_tables(found)
    lines = render(table, "csv").splitlines()
    assert lines[0] == "classes,measure,A,B,B − A,B − A low,B − A high,p,only A,only B"
    for line, entry in zip(lines[1:], record["results"], strict=True):
        figures = [*entry["accuracies"], *(entry[name] for name in ("difference", "low", "high", "p")), *entry["only"]]
        assert [float(cell) for cell in line.split(",")[2:]] == figures
    assert table.notes[1] == "[ ] Newcombe 95 % over paired images; p: exact McNemar; every image of a group once"


def test_class_names_that_look_the_same_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for at, name in enumerate(("caf\u00e9", "cafe\u0301")):
        monkeypatch.setattr("tests.stages.reports.test_compare.NAMES", ("red", name, "blue"))
        save(tmp_path / f"{at}.json", {"raw": 1.0}, Protocol("gzsl"), seen=2)
    assert compare_reports(Source(tmp_path / "0.json"), Source(tmp_path / "1.json")).measures


def test_names_of_models_may_have_colons(tmp_path: Path) -> None:
    (tmp_path / "a.json").touch()
    (tmp_path / "b:c.json").touch()
    for path, model in (("a.json", None), ("a.json", "clip:demo"), ("b:c.json", "own:net"), ("b:c.json", None)):
        given = f"{tmp_path}/{path}" + (f":{model}" if model else "")
        assert Source.parse(given) == Source(tmp_path / path, model)
