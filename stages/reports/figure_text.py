"""The text of figures: the fonts that have its characters, and lines that fit a width."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from stages.text import as_text

_FONT = "DejaVu Sans"  # comes with matplotlib
_PLAIN = ("normal", 400, "normal")  # style, weight, stretch
_BREAKS = "-_/.:,"
_LEFT_TO_RIGHT = "\u200e"  # around a name in a script from right to left, so that what follows it stays behind it


@lru_cache(maxsize=4096)
def _family_of(sign: str) -> str | None:
    """The first installed font that has this character: matplotlib's own, else by name; None without one."""
    from matplotlib import font_manager

    plain = (font for font in font_manager.fontManager.ttflist if (font.style, font.weight, font.stretch) == _PLAIN)
    installed = {font.name: font.fname for font in plain}
    others = sorted(name for name in installed if not name.startswith(("Last Resort", "cm", "STIX")))
    for name in (_FONT, *others):
        try:
            if font_manager.get_font(installed[name]).get_char_index(ord(sign)):
                return name
        except (KeyError, OSError, RuntimeError):  # a font that cannot be opened
            continue
    return None


def families_of(texts: Iterable[str]) -> list[str]:
    """The fonts to draw these texts with, the usual one first."""
    return list(dict.fromkeys([_FONT, *filter(None, (_family_of(sign) for text in texts for sign in sorted(set(text))))]))


def shown_text(text: str) -> str:
    """A name as a figure shows it: one line, and what no installed font has as \\uXXXX, so that two names stay different."""
    shown = "".join(
        sign if sign == " " or (sign.isprintable() and _family_of(sign)) else sign.encode("unicode_escape").decode()
        for sign in " ".join(as_text(text).split())
    )
    turned = any(unicodedata.bidirectional(sign) in ("R", "AL") for sign in shown)
    return f"{_LEFT_TO_RIGHT}{shown}{_LEFT_TO_RIGHT}" if turned else shown


def text_width(figure: Any, text: str, font: float) -> float:
    """Inches of one line of text of that many points."""
    from matplotlib.font_manager import FontProperties

    renderer = figure.canvas.get_renderer()
    width, _, _ = renderer.get_text_width_height_descent(text, FontProperties(size=font), ismath=False)
    return float(width) / figure.dpi


def wrapped(figure: Any, text: str, room: float, font: float) -> str:
    """The text in lines of at most `room` inches, broken after blanks and signs where there are any."""
    lines = []
    rest = text
    while rest and text_width(figure, rest, font) > room:
        low, high = 1, len(rest)
        while low < high:  # the longest beginning that fits
            middle = (low + high + 1) // 2
            low, high = (middle, high) if text_width(figure, rest[:middle], font) <= room else (low, middle - 1)
        blank, sign = (max(rest.rfind(one, 0, low) + 1 for one in signs) for signs in (" ", _BREAKS))
        at = next((place for place in (blank, sign) if place > low // 3), low)
        lines.append(rest[:at].rstrip())
        rest = rest[at:].lstrip()
    return "\n".join([*lines, *([rest] if rest else [])])
