"""Accuracies over the number of shots: which reports give which lines, their ends, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.attacks.spec import parse_attacks
from stages.errors import InputError
from stages.evaluation.protocol import Protocol
from stages.reports import shots
from stages.reports.model_records import Model, Training
from stages.reports.records import Report
from stages.reports.report import make_report
from stages.reports.results import Row, summarise_rows
from stages.reports.shots import ZERO_SHOT, plot_shots, shot_lines
from stages.threat import ThreatModel
from tests.stages.reports.test_plots import report as all_way
from tests.stages.reports.test_report import rows_of

EPISODES, WAYS, QUERIES = 10, 5, 2


def decisions(share: float) -> np.ndarray:
    """Right decisions (100,) of 10 episodes, not as many in each."""
    return np.arange(100) < round(100 * share)


def episodes(
    seed: int | None,
    counts: Sequence[int] = (0, 1, 5),
    *,
    blend: float = 0,
    level: float = 0.5,
    eps: int = 8,
    attacks: Sequence[str] = ("pgd-20", "margin-pgd-20"),
    groups: Sequence[str] = ("novel",),
) -> Report:
    """A model with clean accuracy 0.3 + `level` and `level` (0.1 less under the second attack), 0.01 more a shot."""
    training = None if seed is None else Training(anchors="expanded", objective="laat", seed=seed, name=f"s{seed}")
    rows = []
    for group in groups:
        for count in counts:
            shares = {"clean": 0.3 + level, **dict(zip(attacks, (level, level - 0.1), strict=False))}
            correct = {name: decisions(share + 0.01 * count) for name, share in shares.items()}
            result = summarise_rows(rows_of(correct, EPISODES), classes=20, ways=WAYS)
            rows.append(Row("run", group, result, protocol=f"{count}-shot"))
    protocol = Protocol("episodes", ways=WAYS, shots=counts[0], queries=QUERIES, episodes=EPISODES)
    record = {**protocol.to_record(), "shots": list(counts), "blend": blend}
    return make_report(
        models=[Model(name="run", sha256=f"{seed or 0:02}" * 32, objective="laat", anchors="expanded", training=training)],
        data={"source": "shapes", "sha256": "cd" * 32},
        protocol=record,
        attacks=parse_attacks(attacks),
        threat=ThreatModel(Fraction(eps, 255)) if attacks else None,
        seed=0,
        rows=rows,
    )


def named(*reports: Report) -> dict[str, Report]:
    return {f"r{at}.json": one for at, one in enumerate(reports)}


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    figures: list[Any] = []
    monkeypatch.setattr(shots, "save_figure", lambda figure, size, path: figures.append(figure))
    return figures


def test_images_blends_and_no_images_are_lines_of_one_setting() -> None:
    lines = shot_lines(named(episodes(0), episodes(0, blend=2, level=0.6, counts=(1, 5))))
    assert [(line.setting, line.anchors, list(line.results), line.runs) for line in lines] == [
        ("laat, expanded anchors", "images", [1, 5], 1),
        ("laat, expanded anchors", "names and images, blend 2", [1, 5], 1),
        ("laat, expanded anchors", ZERO_SHOT, [0], 1),
    ]
    middle, low, high = lines[0].figures("robust")
    np.testing.assert_allclose(middle, [0.41, 0.45])
    five = lines[0].results[5][0].worst
    assert (low[1], high[1]) == (five.low, five.high)
    np.testing.assert_allclose(lines[1].figures("clean")[0], [0.91, 0.95])


def test_seeds_of_a_setting_are_averaged_with_their_standard_deviation() -> None:
    lines = shot_lines(named(episodes(0), episodes(1, level=0.6)))
    assert [(line.anchors, line.runs) for line in lines] == [("images", 2), (ZERO_SHOT, 2)]
    middle, low, high = lines[0].figures("clean")
    np.testing.assert_allclose(middle, [0.86, 0.90])
    np.testing.assert_allclose(high - middle, 0.1 / 2**0.5)
    np.testing.assert_allclose(middle - low, 0.1 / 2**0.5)


def of_model(sha256: str, training: Training | None) -> Report:
    report = episodes(0)
    model = report.models[0].model_copy(update={"sha256": sha256 * 32, "training": training})
    return report.model_copy(update={"models": [model]})


@pytest.mark.parametrize("training", [None, Training(anchors="raw", imported="fare", objective="fare")])
def test_models_without_a_recorded_seed_are_not_averaged(training: Training | None) -> None:
    lines = shot_lines(named(of_model("ab", training), of_model("cd", training)))
    assert [(line.setting, line.runs) for line in lines if line.anchors == "images"] == [
        ("run abababababab", 1),
        ("run cdcdcdcdcdcd", 1),
    ]


def test_two_models_of_one_seed_are_refused() -> None:
    training = episodes(1).models[0].training
    with pytest.raises(InputError, match=r"'r0.json' and 'r1.json' have two models of one setting and seed 1"):
        shot_lines(named(of_model("ab", training), of_model("cd", training)))


def test_the_zero_shot_accuracy_is_a_dashed_line_and_chance_a_dotted_one(drawn: list[Any]) -> None:
    found = named(episodes(0), episodes(0, blend=2, level=0.6, counts=(1, 5)))
    plot_shots(shot_lines(found), found["r0.json"], Path("unused.png"))
    clean, robust = drawn[0].axes
    assert (clean.get_title(), robust.get_title()) == ("clean", "worst case")
    curves = [line for line in robust.get_lines() if len(line.get_xdata())]
    drawn_as = [(line.get_linestyle(), list(line.get_xdata())) for line in curves]
    assert drawn_as == [("-", [1, 5]), ("-", [1, 5]), ("--", [1, 5]), (":", [0, 1])]
    for line, values in zip(curves, ([41, 45], [51, 55], [40, 40], [20, 20]), strict=True):
        np.testing.assert_allclose(line.get_ydata(), values)
    (legend,) = drawn[0].legends
    texts = [text.get_text() for text in legend.get_texts()]
    assert texts == ["images", "names and images, blend 2", ZERO_SHOT, "chance"]
    assert "bands: Student t 95 % over episodes" in legend.get_title().get_text().replace("\n", " ")


def test_what_the_bands_are_is_said_for_one_and_for_several_seeds(drawn: list[Any]) -> None:
    found = named(episodes(0), episodes(1), episodes(None, attacks=("pgd-20", "margin-pgd-20")))
    lines = shot_lines(found)
    assert {line.setting for line in lines} == {"laat, expanded anchors", "run"}
    plot_shots(lines, found["r0.json"], Path("unused.png"), "column")
    said = drawn[0].legends[0].get_title().get_text().replace("\n", " ")
    assert "Student t 95 % over episodes, of several seeds ± 1 standard deviation over 2 seeds" in said


def test_the_zero_shot_line_is_seen_beside_a_single_number_of_shots(drawn: list[Any]) -> None:
    found = named(episodes(0, counts=(0, 1)))
    plot_shots(shot_lines(found), found["r0.json"], Path("unused.png"))
    (dashed,) = (line for line in drawn[0].axes[0].get_lines() if line.get_linestyle() == "--" and len(line.get_xdata()))
    assert list(dashed.get_xdata()) == [0.5, 1.5]


def test_a_report_without_attacks_has_one_panel(drawn: list[Any]) -> None:
    found = named(episodes(0, attacks=()))
    plot_shots(shot_lines(found), found["r0.json"], Path("unused.png"))
    assert [axis.get_title() for axis in drawn[0].axes] == ["clean"]


def test_the_file_is_the_same_again(tmp_path: Path) -> None:
    for name in ("one.png", "two.png"):
        plot_shots(shot_lines(named(episodes(0))), episodes(0), tmp_path / name, "slide")
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


@pytest.mark.parametrize(
    ("reports", "says"),
    [
        ([all_way()], "'r0.json' has the protocol all-way, which has no shots; evaluate with --protocol episodes"),
        ([episodes(0, counts=(0,))], "no results with support images"),
        ([episodes(0), episodes(1, eps=4)], "different threat models: 'r0.json' has Linf 8/255.* and 'r1.json' Linf 4/255"),
        ([episodes(0), episodes(1, attacks=("pgd-20",))], "different attacks: 'r0.json' has pgd-20, margin-pgd-20 and"),
        ([episodes(0), episodes(1, groups=("seen",))], "different classes: 'r0.json' has novel and 'r1.json' seen"),
        ([episodes(0, groups=("novel", "seen"))], "several groups of classes: novel, seen"),
        ([episodes(0), episodes(1, counts=(0, 1))], "laat, expanded anchors, images: 1 of 2 runs have figures with 5 shots"),
        ([episodes(0), episodes(0, level=0.4)], "'r1.json' has other figures of 'run' with 0 shots than another report"),
    ],
    ids=["all-way", "zero-shot", "eps", "attacks", "classes", "groups", "shots", "twice"],
)
def test_reports_that_do_not_go_into_one_figure(reports: list[Report], says: str) -> None:
    with pytest.raises(InputError, match=says):
        shot_lines(named(*reports))
