"""What the page of `laat report --format html` shows besides the reports. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from stages.data.request import BUNDLED_DATA
from stages.parameters import check, parameter

PAGE = "Page"  # the panel of --help


@dataclass(frozen=True)
class PageRequest:
    """Files beside the reports, and how many images are shown.

    Raises UsageError for fewer than one image.
    """

    run: list[Path] | None = parameter(
        None,
        "With html: a run folder of laat train, for its learning curves; repeatable.",
        unset="the folder of a report, where it has the checkpoint of one of the report's models",
        panel=PAGE,
    )
    adversarial: list[Path] | None = parameter(
        None, "With html: saved images of laat attack, to look at; repeatable.", panel=PAGE
    )
    data: str | None = parameter(
        None,
        "With html: the data of the reports, to look at their clean images, ordered by the margins in their rows.",
        panel=PAGE,
        places=BUNDLED_DATA,
    )
    images: int = parameter(
        48,
        "With html: show at most N images of each file or result, among them the least and the most robust.",
        panel=PAGE,
        at_least=1,
        below=10**5,
    )

    def __post_init__(self) -> None:
        check(self)
