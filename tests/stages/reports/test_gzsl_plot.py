from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stages.errors import InputError, UsageError
from stages.reports.figures import COLOURS
from stages.reports.gzsl_plot import plot_seen_unseen
from stages.reports.gzsl_table import gzsl_tables
from stages.statistics.gzsl import summarise_gzsl
from stages.statistics.seen_unseen import Sides, limits


def report(models: int = 1, *, attacked: bool = True) -> dict[str, Any]:
    draw = np.random.default_rng(0)
    labels = np.repeat(np.arange(5), 20)
    cosines = draw.normal(0, 0.2, (100, 5))
    cosines[np.arange(100), labels] += 0.3
    found = {"clean": limits(cosines, labels, 3)}
    if attacked:
        cosines[np.arange(100), labels] -= 0.2
        found |= {"fgsm": limits(cosines + 0.05, labels, 3), "pgd-20": limits(cosines, labels, 3)}
    told = summarise_gzsl(Sides(labels, 3, 5), found, seed=0).to_record()
    threat = {"norm": "Linf", "eps": "8/255", "clip": [0.0, 1.0]} if attacked else None
    # the record's names are in alphabetical order, the list of attacks is in that of the run
    results = [{"model": f"run $1_{at}", "gzsl": told, "attacks": told["attacks"]} for at in range(models)]
    return {"results": results, "threat": threat, "attacks": [{"name": name} for name in reversed(told["attacks"])]}


def picture(path: Path) -> np.ndarray:
    with Image.open(path) as opened:
        return np.asarray(opened.convert("RGB"))


def near(pixels: np.ndarray, colour: str) -> np.ndarray:
    wanted = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)])
    return (np.abs(pixels.astype(int) - wanted).max(2) < 30).sum()


def test_every_model_has_a_colour_and_the_same_report_the_same_bytes(tmp_path: Path) -> None:
    plot_seen_unseen(report(3), tmp_path / "one.png")
    plot_seen_unseen(report(3), tmp_path / "two.png")
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    # all three lie on each other; the legend still tells them
    for colour in COLOURS[:3]:
        assert near(picture(tmp_path / "one.png"), colour) > 50


def test_without_an_attack_there_is_only_the_clean_curve(tmp_path: Path) -> None:
    plot_seen_unseen(report(attacked=False), tmp_path / "clean.png")
    plot_seen_unseen(report(), tmp_path / "both.png")
    clean, both = (near(picture(tmp_path / f"{name}.png"), COLOURS[0]) for name in ("clean", "both"))
    assert 100 < clean < both


def test_what_cannot_be_drawn_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no seen-unseen curve; make it with `laat eval --protocol gzsl`"):
        plot_seen_unseen({"results": [{"model": "run"}], "threat": None}, tmp_path / "x.png")
    with pytest.raises(UsageError, match="8 models in one figure"):
        plot_seen_unseen(report(8), tmp_path / "x.png")
    assert not (tmp_path / "x.png").exists()


def test_the_table_has_a_row_a_measure_and_its_figures() -> None:
    (table,) = gzsl_tables({"a": report(2)})
    assert table.columns == ("model", "images", "S (seen)", "U (novel)", "H", "AUSUC")
    assert [row[1] for row in table.rows] == ["clean", "pgd-20", "fgsm", "worst"] * 2
    told = report()["results"][0]["gzsl"]["worst"]
    shown = table.texts()[3]
    assert shown[2].startswith(f"{100 * told['S']['accuracy']:.1f} ± ")
    assert shown[5].startswith(f"{100 * told['ausuc']['area']:.1f} ± ")
    assert "3 seen and 2 novel classes are candidates together" in table.notes[0]
    assert gzsl_tables({"a": {"results": [{"model": "x"}]}}) == []
    assert len(gzsl_tables({"a": report(attacked=False)})[0].rows) == 1
