from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.anchors.anchor_set import AnchorSet
from stages.anchors.expanded import expand_anchors
from stages.classes import ClassGroups
from stages.errors import InputError
from stages.expand.centre import Centring
from stages.expand.methods import ExpandSettings
from stages.expand.paper import PaperExpansion
from stages.reports import sphere
from stages.reports.sphere import Globe, plot_expansion
from tests.stages.reports.test_plots import anchors


def test_the_angle_to_the_centre_is_exact_and_the_expansion_keeps_the_longitude() -> None:
    raw = anchors(40, 30).vectors.astype(np.float64)
    fitted = PaperExpansion.fit(raw[:30])
    globe = Globe.fit(raw[:30], fitted.centre)
    before, after = globe.place(raw), globe.place(fitted.apply(raw))
    np.testing.assert_allclose(np.linalg.norm(before, axis=1), 1, rtol=1e-12)
    np.testing.assert_allclose(np.arccos(before[:, 2]), fitted.angles(raw), atol=1e-7)
    np.testing.assert_allclose(np.arccos(after[:, 2]), fitted.angles(raw) * (np.pi / 2) / fitted.theta_max, atol=1e-7)
    across = (before[:, 0] + 1j * before[:, 1]) / (after[:, 0] + 1j * after[:, 1])
    np.testing.assert_allclose(np.angle(across), 0, atol=1e-7)


def test_the_longitude_is_along_the_principal_axes_of_the_seen_anchors() -> None:
    seen = anchors(30, 30).vectors.astype(np.float64)
    centre = PaperExpansion.fit(seen).centre
    globe = Globe.fit(seen, centre)
    across = seen - np.outer(seen @ centre, centre)
    _, sigma, axes = np.linalg.svd(across)
    assert globe.variance == pytest.approx((sigma[:2] ** 2).sum() / (sigma**2).sum())
    np.testing.assert_allclose(np.abs(globe.axes @ axes[:2].T), np.eye(2), atol=1e-6)
    np.testing.assert_allclose(globe.axes @ centre, 0, atol=1e-9)


def test_of_two_seen_anchors_all_is_along_one_axis() -> None:
    globe = Globe.fit(np.array([[1.0, 0.1, 0.0], [1.0, -0.1, 0.0]]), np.array([1.0, 0.0, 0.0]))
    assert globe.variance == pytest.approx(1)
    assert globe.axes.tolist() == [[0, 1, 0], [0, 0, 0]]
    placed = globe.place(np.array([[1.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, 1.0]]))
    np.testing.assert_allclose(placed, [[0, 0, 1], [-1, 0, 0], [1, 0, 0]], atol=1e-12)


def test_every_anchor_is_drawn_once_in_each_panel(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(sphere, "save_figure", lambda figure, size, path: drawn.append(figure))
    raw = replace(anchors(9, 4), groups=ClassGroups((0, 1, 2, 3), (4, 5), (6, 7, 8)))
    plot_expansion(raw, expand_anchors(raw)[0], Path("unused.png"))
    for axis in drawn[0].axes:
        marks = [line for line in axis.get_lines() if line.get_marker() in "s^D" and len(line.get_xdata())]
        counts = {mark: sum(len(line.get_xdata()) for line in marks if line.get_marker() == mark) for mark in "s^D"}
        assert counts == {"s": 4, "^": 3, "D": 2}
    texts = [text.get_text() for text in drawn[0].legends[0].get_texts()]
    assert texts[:3] == ["seen classes", "novel classes", "validation classes"]
    before, after = (axis.get_title().replace("\n", " ") for axis in drawn[0].axes)
    assert "within 90.0°" in after
    assert "within 90.0°" not in before


@pytest.mark.parametrize("settings", [ExpandSettings(angle=50.0), ExpandSettings("centre"), ExpandSettings("whiten")])
def test_each_method_is_drawn_under_its_name_with_the_edges_of_the_seen_classes(
    settings: ExpandSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(sphere, "save_figure", lambda figure, size, path: drawn.append(figure))
    raw = anchors(9, 6)
    moved, _ = expand_anchors(raw, settings=settings)
    plot_expansion(raw, moved, Path("unused.png"), "slide")
    assert moved.expansion is not None
    seen = raw.indices("seen")
    for axis, one in zip(drawn[0].axes, (raw, moved), strict=True):
        edge = np.degrees(moved.expansion.angles(one.vectors[seen]).max())
        assert f"within {edge:.1f}°" in axis.get_title().replace("\n", " ")
    assert moved.label in drawn[0].axes[1].get_title().replace("\n", " ")


def test_centring_keeps_the_longitude() -> None:
    raw = anchors(40, 30).vectors.astype(np.float64)
    fitted = Centring.fit(raw[:30])
    globe = Globe.fit(raw[:30], fitted.axis())
    before, after = globe.place(raw), globe.place(fitted.apply(raw))
    across = (before[:, 0] + 1j * before[:, 1]) / (after[:, 0] + 1j * after[:, 1])
    np.testing.assert_allclose(np.angle(across), 0, atol=1e-7)


def test_around_a_mean_of_zero_nothing_is_drawn(tmp_path: Path) -> None:
    raw = replace(anchors(4, 4), vectors=np.float32(np.eye(4) - 0.25) / np.float32(0.75**0.5))
    with pytest.raises(InputError, match="mean of the seen anchors is zero"):
        plot_expansion(raw, expand_anchors(raw, settings=ExpandSettings("centre"))[0], tmp_path / "x.png")


def test_what_faces_the_viewer_is_near() -> None:
    (longitude, latitude) = sphere._VIEW
    toward = sphere._on_sphere(np.array([longitude]), np.array([latitude]))
    places, near = sphere._seen_from(np.concatenate([toward, -toward, [[0, 0, 1.0]]]))
    assert near.tolist() == [True, False, True]
    np.testing.assert_allclose(places[:2], 0, atol=1e-12)
    np.testing.assert_allclose(places[2], [0, np.cos(latitude)], atol=1e-12)


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_the_file_is_the_same_again(tmp_path: Path, ending: str) -> None:
    for name in ("one", "two"):
        plot_expansion(anchors(), expand_anchors(anchors())[0], tmp_path / f"{name}.{ending}")
    assert (tmp_path / f"one.{ending}").read_bytes() == (tmp_path / f"two.{ending}").read_bytes()


def test_other_anchors_are_refused(tmp_path: Path) -> None:
    raw: AnchorSet = anchors()
    other = replace(expand_anchors(raw)[0], classes=tuple("abcdef"))
    for expanded in (raw, other):
        with pytest.raises(InputError, match="not the raw and the expanded anchors of the same classes"):
            plot_expansion(raw, expanded, tmp_path / "x.png")
