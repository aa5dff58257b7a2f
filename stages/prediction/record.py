"""What a classifier says of one image. No torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.text import is_text


@dataclass(frozen=True)
class Prediction:
    """The answer for one image.

    Attributes:
        path: of the image, by the name that the system gave; '' for one given as pixels.
        top: (class name, confidence) of the most probable classes, the largest confidence first; empty if the image could not
            be read. Confidences are probabilities over all candidate classes, see `Classifier.probabilities`.
        margin: the difference of the two largest confidences; NaN if the image could not be read.
        error: why the image could not be read, or ''.
        stands: whether no attack of the suite changed the answer; None where none was run.
        falls_at: the smallest eps that was tried, as text, at which one did; '' if none did or none was run.
    """

    path: str
    top: tuple[tuple[str, float], ...] = ()
    margin: float = math.nan
    error: str = ""
    stands: bool | None = None
    falls_at: str = ""

    @property
    def name(self) -> str:
        """The predicted class; '' if the image could not be read."""
        return self.top[0][0] if self.top else ""

    @property
    def confidence(self) -> float:
        """The probability of the predicted class; NaN if the image could not be read."""
        return self.top[0][1] if self.top else math.nan

    def to_record(self) -> dict[str, Any]:
        """JSON-able record: a line of a .jsonl file and of `laat predict --json`."""
        read = not self.error
        return {
            "path": path_as_text(self.path),
            "name": self.name if read else None,
            "confidence": self.confidence if read else None,
            "margin": self.margin if read else None,
            "top": [{"name": name, "confidence": confidence} for name, confidence in self.top],
            **({} if self.stands is None else {"stands": self.stands, "falls_at": self.falls_at or None}),
            "error": self.error or None,
        }


def path_as_text(path: str) -> str:
    """A path as text by which a program can open the file: itself or, if its bytes are not UTF-8, its file: URI.

    No two files have the same text: a path that begins with 'file:' is spelled as a URI too.
    """
    return path if is_text(path) and not path.startswith("file:") else Path(path).absolute().as_uri()
