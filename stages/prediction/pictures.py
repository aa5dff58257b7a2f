"""Pictures of attacked images: clean, attacked and the amplified difference side by side, with both answers below."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stages.reports.figure_text import shown_text, wrapped
from stages.reports.figures import COLOURS, FigureSize, save_figure, style
from stages.threat import ThreatModel, format_eps

AMPLIFIED = 16
SHEET_ROWS = 6  # images of one sheet
_DPI = 200
_SIDE, _FONT = 320, 8.0  # pixels of an image, at least; points
_GAP, _LINE = 18, 1.3  # pixels between images; height of a line of text, in its size
_STANDS, _FALLS, _QUIET = COLOURS[0], COLOURS[1], "0.35"


@dataclass(frozen=True)
class AttackedPicture:
    """One image, its attacked form, and what the model says of both.

    Attributes:
        title: how the image is called.
        clean, attacked: uint8 (H, W, 3).
        answers: class name and confidence for the clean and for the attacked image.
    """

    title: str
    clean: np.ndarray
    attacked: np.ndarray
    answers: tuple[tuple[str, float], tuple[str, float]]


def draw_attacked(pictures: Sequence[AttackedPicture], threat: ThreatModel, path: Path) -> None:
    """Draw images, a row each: every pixel as a square of the same number of pixels, none smoothed.

    The difference is shown around grey, 16 times as large.

    Args:
        pictures: at least one.
        threat: the threat model of the attack, for the heading.
        path: of the PNG, SVG or PDF file.

    Raises UsageError for another suffix, MissingError when `path` cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    width = max(one.clean.shape[1] for one in pictures)
    factor = math.ceil(_SIDE / max(width, *(len(one.clean) for one in pictures)))
    columns = [_GAP + at * (factor * width + _GAP) for at in range(3)]
    size = FigureSize((columns[-1] + factor * width + _GAP) / _DPI, 0, 0, _FONT)
    with style(size, [text for one in pictures for text in (one.title, *(name for name, _ in one.answers))]):
        figure = Figure(dpi=_DPI, figsize=(size.width, 1))
        FigureCanvasAgg(figure)
        room = factor * width / _DPI
        heads = _wrapped(figure, ["clean", f"attacked, {_spelled(threat)}", f"difference × {AMPLIFIED} (grey: none)"], room)
        rows = [_wrapped(figure, _texts(one), room) for one in pictures]
        line = _LINE * _FONT / 72 * _DPI
        heights = [
            _GAP + line * _lines(heads),
            *(factor * len(one.clean) + _GAP / 2 + line * _lines(row) + _GAP for one, row in zip(pictures, rows, strict=True)),
        ]
        total = math.ceil(sum(heights) + _GAP / 2)
        figure.set_size_inches(size.width, total / _DPI)
        top = total - _GAP / 2
        _write(figure, columns, heads, top, ["black"] * 3, total)
        top -= heights[0]
        for one, texts, used in zip(pictures, rows, heights[1:], strict=True):
            moved = one.attacked.astype(np.int16) - one.clean
            difference = (128 + AMPLIFIED * moved).clip(0, 255).astype(np.uint8)
            bottom = round(top - factor * len(one.clean))
            for left, image in zip(columns, (one.clean, one.attacked, difference), strict=True):
                figure.figimage(np.kron(image, np.ones((factor, factor, 1), np.uint8)), xo=left, yo=bottom, origin="upper")
            changed = one.answers[0][0] != one.answers[1][0]
            _write(figure, columns, texts, bottom - _GAP / 2, ["black", _FALLS if changed else _STANDS, _QUIET], total)
            top -= used
    save_figure(figure, size, path)


def _texts(one: AttackedPicture) -> list[str]:
    """What stands below the three images."""
    clean, attacked = (f"{shown_text(name)} {100 * confidence:.0f} %" for name, confidence in one.answers)
    return [clean, attacked, shown_text(one.title)]


def _spelled(threat: ThreatModel) -> str:
    return f"{'L∞' if threat.norm == 'Linf' else 'L2'} {format_eps(threat.eps, threat.norm)}"


def _wrapped(figure: Any, texts: Sequence[str], room: float) -> list[str]:
    return [wrapped(figure, text, room, _FONT) for text in texts]


def _lines(texts: Sequence[str]) -> int:
    return max(text.count("\n") + 1 for text in texts)


def _write(figure: Any, columns: Sequence[int], texts: Sequence[str], top: float, colours: Sequence[str], total: int) -> None:
    """Texts below `top`, pixels from below, in the three columns, on common baselines."""
    width, line = figure.get_figwidth() * _DPI, _LINE * _FONT / 72 * _DPI
    for left, text, colour in zip(columns, texts, colours, strict=True):
        for at, part in enumerate(text.split("\n"), 1):
            how = {"fontsize": _FONT, "color": colour, "va": "baseline"}
            figure.text(left / width, (top - (at - 0.25) * line) / total, part, **how)
