"""Options that several commands share, each declared once."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from stages.errors import UsageError
from stages.threat import ThreatModel, parse_eps, parse_norm

# the panels of a command's help
IMAGES, CLASSES, PROTOCOL, ATTACKS, OUTPUT = "Images", "Classes", "Protocol", "Attacks", "Output"

Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.", show_default=True)]
Seed = Annotated[int, typer.Option(help="Every random draw follows from it.")]
Norm = Annotated[
    str,
    typer.Option(help="linf (the largest change of a colour value) or l2 (Euclidean, over an image).", rich_help_panel=ATTACKS),
]
Eps = Annotated[
    str | None,
    typer.Option(
        help="Radius in pixel units: 8/255 is 8 of 255 grey levels. \\[default: 8/255 in linf, 128/255 in l2]",
        show_default=False,
        rich_help_panel=ATTACKS,
    ),
]
BatchSize = Annotated[int, typer.Option(help="Images a batch. Does not change the figures.")]
Data = Annotated[
    str | None,
    typer.Option(
        help="Folder of class folders, parquet file or folder, saved dataset, hub id (ORG/NAME), or 'shapes'.",
        rich_help_panel=IMAGES,
    ),
]
Split = Annotated[
    str | None,
    typer.Option(help="train, test or train+test. Default: train to train, test to evaluate.", rich_help_panel=IMAGES),
]
Resize = Annotated[int | None, typer.Option(help="Shorter side to N pixels, then the central N x N.", rich_help_panel=IMAGES)]
ImageColumn = Annotated[
    str | None, typer.Option(help="Column with the images. Default: found by its type.", rich_help_panel=IMAGES)
]
LabelColumn = Annotated[
    str | None, typer.Option(help="Column with the labels. Default: found by its type.", rich_help_panel=IMAGES)
]
SkipCorrupt = Annotated[
    bool,
    typer.Option("--skip-corrupt", help="Leave out images that cannot be decoded, and count them.", rich_help_panel=IMAGES),
]
ClassesFrom = Annotated[
    str | None,
    typer.Option(
        help="novel, seen, val, all, or a file of class names. Default: novel if there are any, else seen.",
        rich_help_panel=CLASSES,
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Replace results that stand there already.")]
ModelFile = Annotated[Path, typer.Argument(help="A checkpoint, run/model.st.", show_default=False)]
OtherAnchors = Annotated[
    Path | None,
    typer.Option("--anchors", help="Score against these anchors instead, for classes named later.", rich_help_panel=CLASSES),
]
Cache = Annotated[
    str,
    typer.Option(help="Where images live: device, ram, none (streamed from disk), or auto: chosen by size and said."),
]


_SECONDS = {"s": 1, "m": 60, "h": 3600}


DEFAULT_EPS = {"Linf": "8/255", "L2": "128/255"}


def read_threat(norm: str, eps: str | None) -> ThreatModel:
    """The threat model of --norm and --eps. Raises UsageError for a norm or radius that there is not."""
    known = parse_norm(norm)
    return ThreatModel(parse_eps(DEFAULT_EPS[known] if eps is None else eps, known), known)


def parse_duration(text: str) -> float:
    """Seconds of '60s', '5m' or '1h'; a bare number is seconds. Raises UsageError for anything else."""
    found = re.fullmatch(r"(\d{1,6}(?:\.\d{1,3})?)([smh]?)", text.strip())
    if not found:
        raise UsageError(f"'{text}' is no length of time", "write it as 60s, 5m or 1h")
    return float(found[1]) * _SECONDS[found[2] or "s"]
