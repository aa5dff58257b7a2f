from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stages.anchors.anchor_set import AnchorSet
from stages.anchors.expanded import expand_anchors
from stages.attacks.spec import parse_attacks
from stages.classes import ClassGroups
from stages.errors import InputError, MissingError, UsageError
from stages.evaluation.protocol import Protocol
from stages.reports import figures, plots
from stages.reports.figure_text import shown_text
from stages.reports.model_records import Model
from stages.reports.plots import plot_cosines, plot_results, plot_seen_unseen
from stages.reports.records import Report
from stages.reports.report import make_report
from stages.reports.results import Row, summarise_rows
from stages.statistics.gzsl import summarise_gzsl
from stages.statistics.seen_unseen import SeenUnseen, limits
from stages.threat import ThreatModel
from tests.stages.reports.test_report import rows_of


def anchors(count: int = 6, seen: int = 4) -> AnchorSet:
    values = 2 + np.random.default_rng(0).standard_normal((count, 8))
    unit = (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)
    names = tuple(f"class {at}" for at in range(count))
    return AnchorSet(unit, names, ClassGroups.from_counts(count, seen), {"source": "text"})


def right(share: float, images: int = 200) -> np.ndarray:
    return np.arange(images) < share * images


def report(attacks: tuple[str, ...] = ("pgd-20", "margin-pgd-20"), groups: tuple[str, ...] = ("seen", "novel")) -> Report:
    """Two models, whose first attack leaves 0.3 and 0.5 and whose worst case is that of the second attack, 0.2 and 0.4."""
    rows = []
    for group in groups:
        for at, model in enumerate(("raw", "expanded")):
            shares = dict(zip(attacks, (0.3 + 0.2 * at, 0.2 + 0.2 * at), strict=False))
            correct = {"clean": right(0.8), **{name: right(share) for name, share in shares.items()}}
            rows.append(Row(model, group, summarise_rows(rows_of(correct), classes=5, ways=5)))
    return make_report(
        models=[Model(name=name, sha256="ab" * 32, objective="laat", anchors=name) for name in ("raw", "expanded")],
        data={"source": "shapes"},
        protocol=Protocol().to_record(),
        attacks=parse_attacks(attacks),
        threat=ThreatModel(Fraction(8, 255)) if attacks else None,
        seed=0,
        rows=rows,
    )


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The figures that would have been saved."""
    caught: list[Any] = []
    monkeypatch.setattr(plots, "save_figure", lambda figure, size, path: caught.append(figure))
    return caught


def test_a_png_is_written_and_the_same_again(tmp_path: Path) -> None:
    moved, _ = expand_anchors(anchors())
    for name in ("one", "two"):
        plot_cosines(anchors(), moved, tmp_path / f"{name}.png")
        plot_results(report(), tmp_path / f"{name}-results.png")
    for stem in ("", "-results"):
        data = (tmp_path / f"one{stem}.png").read_bytes()
        assert data == (tmp_path / f"two{stem}.png").read_bytes()
        assert str(tmp_path).encode() not in data
        assert 5_000 < len(data) < 500_000
        with Image.open(tmp_path / f"one{stem}.png") as image:
            assert image.format == "PNG"
            assert image.width == 7 * 200
            assert 300 < image.height < 3000
            assert len(image.convert("RGB").getcolors(10**6)) > 20  # something is on it


def test_the_cosine_matrices(drawn: list[Any]) -> None:
    raw = anchors()
    moved, _ = expand_anchors(raw)
    plot_cosines(raw, moved, Path("unused.png"))
    left, right_hand, *_ = drawn[0].axes
    for axis, shown in ((left, raw), (right_hand, moved)):
        matrix = axis.images[0].get_array()
        np.testing.assert_allclose(matrix, shown.vectors @ shown.vectors.T, atol=1e-6)
        assert axis.images[0].get_clim() == (-1, 1)
        mean = matrix[np.triu_indices(6, 1)].mean()
        assert axis.get_title().endswith(f"mean cosine {mean:.3f}")
        assert [label.get_text() for label in axis.get_xticklabels()] == list(raw.classes)
        # the border of the seen classes, across and down
        assert sorted(line.get_xydata()[0].max() for line in axis.lines) == [3.5, 3.5]


def test_one_class_and_many_classes(drawn: list[Any]) -> None:
    raw = anchors(1, 1)
    plot_cosines(raw, raw, Path("unused.png"))
    assert drawn[0].axes[0].get_title().endswith("one class")
    many = anchors(40, 40)
    plot_cosines(many, many, Path("unused.png"))
    assert drawn[1].axes[0].lines[:] == []
    assert "class 39" not in [label.get_text() for label in drawn[1].axes[0].get_xticklabels()]


def test_marks_are_the_accuracies_with_their_intervals(drawn: list[Any]) -> None:
    record = report()
    plot_results(record, Path("unused.png"))
    assert len(drawn[0].axes) == 2
    for axis, group in zip(drawn[0].axes, ("seen", "novel"), strict=True):
        entries = [entry for entry in record.results if entry.group == group]
        assert axis.get_title() == f"{group} classes\n5-way, chance 20.0 %"
        assert axis.get_xlabel() == "accuracy (%)"
        assert axis.get_xlim()[0] < 0 < 100 < axis.get_xlim()[1]
        names = [label.get_text() for label in axis.get_yticklabels()]
        assert names == (["raw", "expanded"] if group == "seen" else ["", ""])
        assert [part.get_label() for part in axis.containers] == ["clean", "pgd-20", "margin-pgd-20", "worst"]
        points = [part.lines[0].get_xdata() for part in axis.containers]
        np.testing.assert_allclose(points, [[80, 80], [30, 50], [20, 40], [20, 40]])
        assert len({(part.lines[0].get_color(), part.lines[0].get_marker()) for part in axis.containers}) == 4
        for at, entry in enumerate(entries):
            segment = axis.containers[1].lines[2][0].get_segments()[at]
            value = entry.attacks["pgd-20"]
            np.testing.assert_allclose(segment[:, 0], [100 * value.low, 100 * value.high])
        (chance,) = [line for line in axis.lines if line.get_linestyle() == ":"]
        np.testing.assert_allclose(chance.get_xdata(), 20)
    (legend,) = drawn[0].legends
    assert [text.get_text() for text in legend.get_texts()] == ["clean", "pgd-20", "margin-pgd-20", "worst", "chance"]
    assert legend.get_title().get_text() == "attacks in Linf 8/255; intervals: Wilson 95 % over images"


def test_the_format_is_that_of_the_name_and_the_same_again(tmp_path: Path) -> None:
    for form, begins in {"svg": b"<?xml", "pdf": b"%PDF", "PNG": b"\x89PNG"}.items():
        for name in ("one", "two"):
            plot_seen_unseen(gzsl_report(), tmp_path / f"{name}.{form}", "column")
        data = (tmp_path / f"one.{form}").read_bytes()
        assert data.startswith(begins)
        assert data == (tmp_path / f"two.{form}").read_bytes()
    for name in ("x.jpg", "x"):
        with pytest.raises(UsageError, match=r"end the name with \.png, \.svg or \.pdf"):
            plot_results(report(), tmp_path / name)
    with pytest.raises(UsageError, match="unknown plot size 'a4'; choose one of column, page, slide"):
        plot_results(report(), tmp_path / "x.png", "a4")


def test_characters_without_a_font_keep_names_apart() -> None:
    assert shown_text("naïve Ωmega_1 $x$") == "naïve Ωmega_1 $x$"
    assert shown_text("a\nb \x1b[0m") == r"a b \x1b[0m"
    assert shown_text("\U0010fffd") == r"\U0010fffd"


def test_one_attack_has_no_worst_case_of_its_own(drawn: list[Any]) -> None:
    plot_results(report(attacks=("pgd-20",), groups=("novel",)), Path("unused.png"))
    assert len(drawn[0].axes) == 1
    assert [text.get_text() for text in drawn[0].legends[0].get_texts()] == ["clean", "pgd-20", "chance"]


def test_a_report_without_attacks(drawn: list[Any], tmp_path: Path) -> None:
    plot_results(report(attacks=()), tmp_path / "unused.png")
    assert [text.get_text() for text in drawn[0].legends[0].get_texts()] == ["clean", "chance"]
    assert drawn[0].legends[0].get_title().get_text() == "intervals: Wilson 95 % over images"


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(MissingError, match="a folder is in the way"):
        plot_results(report(), tmp_path / "folder.png")


def gzsl_report(models: int = 1, *, attacked: bool = True) -> Report:
    """Models on seen and novel classes together; the attacks were run in another order than that of their names."""
    draw = np.random.default_rng(0)
    labels = np.repeat(np.arange(5), 20)
    cosines = draw.normal(0, 0.2, (100, 5))
    cosines[np.arange(100), labels] += 0.3
    found = {"clean": limits(cosines, labels, 3)}
    if attacked:
        cosines[np.arange(100), labels] -= 0.2
        found |= {"pgd-20": limits(cosines, labels, 3), "fgsm": limits(cosines + 0.05, labels, 3)}
    samples = SeenUnseen(labels, 3, 5)
    clean = samples.right(found["clean"])
    correct = {name: clean & samples.right(limit) for name, limit in found.items()}
    result = replace(summarise_rows(rows_of(correct), classes=5, ways=5), gzsl=summarise_gzsl(samples, found, seed=0))
    names = [f"run $1_{at}" for at in range(models)]
    return make_report(
        models=[Model(name=name, sha256="ab" * 32, objective="laat", anchors=name) for name in names],
        data={"source": "shapes"},
        protocol=Protocol("gzsl").to_record(),
        attacks=parse_attacks([name for name in found if name != "clean"]),
        threat=ThreatModel(Fraction(8, 255)) if attacked else None,
        seed=0,
        rows=[Row(name, "seen+novel", result) for name in names],
    )


def near(path: Path, colour: str) -> int:
    """Pixels of about this colour."""
    with Image.open(path) as opened:
        pixels = np.asarray(opened.convert("RGB")).astype(int)
    wanted = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)])
    return int((np.abs(pixels - wanted).max(2) < 30).sum())


def test_every_curve_has_a_colour_and_the_same_report_the_same_bytes(tmp_path: Path) -> None:
    plot_seen_unseen(gzsl_report(3), tmp_path / "one.png")
    plot_seen_unseen(gzsl_report(3), tmp_path / "two.png")
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    # all three coincide; the legend still shows them
    for colour in figures.COLOURS[:3]:
        assert near(tmp_path / "one.png", colour) > 50


def test_without_an_attack_there_is_only_the_clean_curve(tmp_path: Path) -> None:
    plot_seen_unseen(gzsl_report(attacked=False), tmp_path / "clean.png")
    plot_seen_unseen(gzsl_report(), tmp_path / "both.png")
    assert 100 < near(tmp_path / "clean.png", figures.COLOURS[0]) < near(tmp_path / "both.png", figures.COLOURS[0])


def test_curves_that_cannot_be_drawn_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no seen-unseen curve; make it with `laat eval --protocol gzsl`"):
        plot_seen_unseen(report(), tmp_path / "x.png")
    with pytest.raises(UsageError, match=f"more than {figures.SERIES} lines"):
        plot_seen_unseen(gzsl_report(figures.SERIES + 1), tmp_path / "x.png")
    assert not (tmp_path / "x.png").exists()
