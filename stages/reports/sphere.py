"""The expansion as a picture: raw and expanded anchors on the unit sphere, as PNG, SVG or PDF. Needs no display."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stages.anchors.anchor_set import AnchorSet
from stages.cosines import pooled_cosines, unit_rows
from stages.errors import InputError
from stages.expand.expansion import Expansion
from stages.reports.figure_text import shown_text, wrapped
from stages.reports.figures import DEFAULT_SIZE, Legend, find_size, lay_out, look, new_figure, save_figure, style

_GROUPS = {"seen": "seen classes", "novel": "novel classes", "val": "validation classes"}
_VIEW = np.radians([-60.0, 42.0])  # longitude and latitude that face the viewer
_GRID = 30  # degrees between the lines of the globe
_RASTER = 3000  # more marks than this are an image in vector files, too
_FLAT = 1e-9  # a variance below this share of the largest is rounding


@dataclass(frozen=True)
class Globe:
    """How anchors of D dimensions are placed on a sphere in three.

    The angle to the centre, which the expansion changes, is exact: the centre is the pole. The longitude, which all maps but
    whitening keep, is that of the projection on two axes across the centre: the principal axes of the seen anchors. Angles
    between two anchors are not kept.

    Attributes:
        centre: (D,) unit vector.
        axes: (2, D) orthonormal rows across the centre; a row of zeros where the seen anchors have no such direction.
        variance: the share of the seen anchors' variance across the centre along the axes, in [0, 1].
    """

    centre: np.ndarray
    axes: np.ndarray
    variance: float

    @classmethod
    def fit(cls, seen: np.ndarray, centre: np.ndarray) -> Globe:
        """Fit the axes on the seen anchors (n, D), around a centre (D,)."""
        unit = unit_rows(seen)
        across = unit - (unit @ centre)[:, None] * centre
        values, vectors = np.linalg.eigh(across.T @ across)  # ascending
        kept = np.zeros((2, len(centre)))
        for at in range(min(2, len(values))):
            axis = vectors[:, -1 - at]
            if values[-1 - at] > _FLAT * values[-1]:
                kept[at] = axis * np.sign(axis[np.abs(axis).argmax()])  # of the two signs always the same
        share = float(values[-2:].clip(0).sum() / values.clip(0).sum())
        return cls(centre, kept, share)

    def place(self, anchors: np.ndarray) -> np.ndarray:
        """Anchors (C, D) as points (C, 3) of the unit sphere, the centre at (0, 0, 1)."""
        unit = unit_rows(anchors)
        height = unit @ self.centre
        angle = np.arctan2(np.linalg.norm(unit - height[:, None] * self.centre, axis=1), height)
        flat = unit @ self.axes.T
        return _on_sphere(np.arctan2(flat[:, 1], flat[:, 0]), np.pi / 2 - angle)


def plot_expansion(raw: AnchorSet, expanded: AnchorSet, path: Path, size: str = DEFAULT_SIZE) -> Globe:
    """Draw raw and expanded anchors on the sphere around the centre of the expansion, see `Globe`; returns it.

    Raises:
        InputError: `expanded` has no expansion, or other classes than `raw`.
        UsageError: an unknown size or file format.
        MissingError: `path` cannot be written.

    Source: the expansion is that of Li et al., CVPR 2024, Sec. 3.2 and Fig. 4.
    """
    fitted = expanded.expansion
    if fitted is None or raw.classes != expanded.classes:
        raise InputError("these are not the raw and the expanded anchors of the same classes", "expand them with `laat expand`")
    chosen = find_size(size)
    source = shown_text(str(raw.origin.get("source", "raw")))
    # an expansion of other anchors (`laat expand --like`) was fitted on their seen classes
    seen = raw.indices("seen" if raw.groups.seen else "all")
    globe = Globe.fit(raw.vectors[seen], fitted.axis())
    with style(chosen, [source]):
        figure, axes = new_figure(chosen, *((2, 1) if chosen.narrow else (1, 2)))
        side = chosen.width / (1.35 if chosen.narrow else 2.7)
        edges = fitted.cone() or _edges(fitted, raw.vectors[seen], expanded.vectors[seen])
        titles = (source, f"{source}, {fitted.label}")
        for axis, anchors, title, edge in zip(axes.flat, (raw, expanded), titles, edges, strict=True):
            _draw_globe(axis, edge)
            _draw_anchors(axis, anchors, globe)
            mean = pooled_cosines(anchors.vectors, 1)[1]
            about = f"mean cosine {mean:.3f}, seen classes within {edge:.1f}°"
            axis.set_title("\n".join(wrapped(figure, text, 1.1 * side, chosen.font) for text in (f"{title} anchors", about)))
        lay_out(figure, chosen, 2 * (side + 0.35) if chosen.narrow else side + 0.5, _legends(axes.flat[0], raw, globe))
    save_figure(figure, chosen, path)
    return globe


def _edges(fitted: Expansion, *seen: np.ndarray) -> tuple[float, ...]:
    """The largest angle to the centre of each of several sets of anchors (n, D), degrees."""
    return tuple(float(np.degrees(fitted.angles(one).max())) for one in seen)


def _on_sphere(longitude: np.ndarray, latitude: np.ndarray) -> np.ndarray:
    """Points (N, 3) of the unit sphere, from radians (N,)."""
    flat = np.cos(latitude)
    return np.stack([flat * np.cos(longitude), flat * np.sin(longitude), np.sin(latitude)], axis=1)


def _seen_from(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points (N, 3) as the viewer sees them, from far away: places (N, 2), and which are on the near side (N,)."""
    (east,), (toward,) = _on_sphere(_VIEW[:1] + np.pi / 2, np.zeros(1)), _on_sphere(_VIEW[:1], _VIEW[1:])
    return points @ np.stack([east, np.cross(toward, east)], axis=1), points @ toward >= 0


def _draw_globe(axis: Any, edge: float) -> None:
    """Outline, meridians, parallels, the centre, and the edge of the seen cone, in degrees from the centre."""
    turn, rise = np.radians(np.linspace(-180, 180, 361)), np.radians(np.linspace(-90, 90, 181))
    for degrees in range(0, 360, _GRID):
        _curve(axis, _on_sphere(np.full_like(rise, np.radians(degrees)), rise), color="0.75", linewidth=0.4)
    for degrees in range(_GRID - 90, 90, _GRID):
        _curve(axis, _on_sphere(turn, np.full_like(turn, np.radians(degrees))), color="0.75", linewidth=0.4)
    _curve(axis, _on_sphere(turn, np.full_like(turn, np.radians(90 - edge))), color="black", linewidth=1.0)
    axis.plot(np.cos(turn), np.sin(turn), color="0.4", linewidth=0.6)
    axis.plot(*_seen_from(np.array([[0.0, 0.0, 1.0]]))[0].T, marker="+", color="black", linestyle="", zorder=4)
    axis.set(xlim=(-1.04, 1.04), ylim=(-1.04, 1.04), xticks=[], yticks=[], frame_on=False)
    axis.set_aspect("equal")


def _curve(axis: Any, points: np.ndarray, **how: Any) -> None:
    """A line on the sphere, fainter behind it."""
    places, near = _seen_from(points)
    for side, alpha in ((near, 1.0), (~near, 0.35)):
        axis.plot(*np.where(side[:, None], places, np.nan).T, alpha=alpha, zorder=1, **how)


def _draw_anchors(axis: Any, anchors: AnchorSet, globe: Globe) -> None:
    """A filled mark for each anchor on the near side, a hollow one behind the sphere; the shape is that of its group."""
    places, near = _seen_from(globe.place(anchors.vectors))
    for at, group in enumerate(_GROUPS):
        mine = np.isin(np.arange(len(places)), anchors.indices(group))
        for side, how in ((~near, {"markerfacecolor": "none"}), (near, {"markeredgecolor": "white"})):
            axis.plot(*places[mine & side].T, linestyle="", zorder=3, rasterized=len(places) > _RASTER, **{**look(at), **how})


def _legends(axis: Any, anchors: AnchorSet, globe: Globe) -> list[Legend]:
    groups = {name: look(at) for at, (group, name) in enumerate(_GROUPS.items()) if anchors.indices(group)}
    keys = {
        **{name: {**how, "linestyle": "", "markeredgecolor": "white"} for name, how in groups.items()},
        "behind the sphere": {"marker": "o", "color": "0.3", "markerfacecolor": "none", "linestyle": ""},
        "centre of the seen classes": {"marker": "+", "color": "black", "linestyle": ""},
        "edge of their cone": {"color": "black"},
    }
    about = (
        "The angle to the centre is exact. The longitude is a projection on the two principal axes of the seen anchors, with "
        f"{100 * globe.variance:.0f} % of their variance across the centre: angles between two anchors are not kept."
    )
    return [Legend([axis.plot([], [], **how)[0] for how in keys.values()], list(keys), about)]
