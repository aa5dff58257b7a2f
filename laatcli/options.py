"""Options that several commands share, and the checks on places to write."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from laatcli.config_file import file_read
from stages.devices import check_device_name
from stages.errors import UsageError
from stages.files.reading import STDIO
from stages.files.writing import check_writable
from stages.parameters import SEEDS, check, parameter, parameters, parser_name
from stages.reports.figures import DEFAULT_SIZE, SIZES

# the panels of a command's help
CLASSES, ATTACKS, OUTPUT, ENCODER = "Classes", "Attacks", "Output", "Text encoder"

DEVICES = "auto, cpu, cuda, cuda:N or mps."
Device = Annotated[str, typer.Option(help=DEVICES)]
GROUPS = ("novel", "seen", "val", "all")
CLASSES_FROM, CLASSES_UNSET = "novel, seen, val, all, or a file of class names", "novel if there are any, else seen"
MODELS = (
    "A checkpoint, run/model.st; demo, the bundled one; hf-hub:ORG/NAME, a published checkpoint or CLIP model; a CLIP model, "
    "clip:NAME/TAG, clip:demo or local-dir:PATH; weights.safetensors with --architecture; your own package.module:factory; or "
    "robustbench:MODEL."
)
Model = Annotated[str, typer.Argument(metavar="MODEL", help=MODELS, show_default=False)]
OUTPUT_FILE = "Output file; - is standard output."
_SECONDS = {"s": 1, "m": 60, "h": 3600}


def seed() -> Any:
    """The option --seed."""
    return parameter(0, "Random seed.", below=SEEDS)


@dataclass(frozen=True)
class Computing:
    """How figures are computed."""

    batch_size: int = parameter(256, "Batch size. Changes the figures of randomised models only.", at_least=1)
    seed: int = seed()
    device: str = parameter("auto", DEVICES)

    def __post_init__(self) -> None:
        check(self)
        check_device_name(self.device)


@dataclass(frozen=True)
class Plotting:
    """How plots look."""

    plot_size: str = parameter(
        DEFAULT_SIZE, "Size of the plot: column (3.3 in wide), page (7 in) or slide (16:9).", panel=OUTPUT, choices=tuple(SIZES)
    )

    def __post_init__(self) -> None:
        check(self)


def parse_duration(text: str) -> float:
    """Seconds of '60s', '5m' or '1h'; a bare number is seconds. Raises UsageError for anything else."""
    found = re.fullmatch(r"(\d{1,6}(?:\.\d{1,3})?)([smh]?)", text.strip())
    if not found:
        raise UsageError(f"'{text}' is not a length of time", "write it as 60s, 5m or 1h")
    return float(found[1]) * _SECONDS[found[2] or "s"]


# what the file is to the user, and its path; None and - are no files
Place = tuple[str, Path | str | None]


def check_places(context: typer.Context, outputs: Iterable[Place], inputs: Iterable[Place]) -> None:
    """Check where a command writes, before the work begins. The file with its settings is one that it reads.

    Raises:
        UsageError: two outputs in one file, or one in a file that is read, naming both.
        MissingError: a place that cannot be written.
    """
    taken: dict[Path, str] = {}
    for name, path in outputs:
        if path is None or str(path) == STDIO:
            continue
        check_writable(path)
        place = Path(os.path.realpath(path))
        if place.exists() and not place.is_file():  # a device or a pipe is not replaced
            continue
        if place in taken:
            raise UsageError(f"{taken[place]} and {name} name the same file", "name two files")
        taken[place] = name
    for name, path in (*inputs, ("the command", file_read(context))):
        if path is not None and (place := Path(os.path.realpath(path))) in taken:
            raise UsageError(f"{taken[place]} would replace '{path}', which {name} reads", "choose another path for it")


def option_names(kind: Any) -> tuple[str, ...]:
    """The names of the options of a dataclass, as the command's function gets them."""
    return tuple(parser_name(option) for _, _, option in parameters(kind))


def refuse_given(context: typer.Context, names: Sequence[str], other: str, fix: str = "") -> None:
    """Raise UsageError if the command line has one of the options `names`, which mean nothing beside `other`."""
    for option in _given(context, names):
        raise UsageError(f"{option} cannot be combined with {other}", fix or f"leave {option} out")


def refuse_without(context: typer.Context, names: Sequence[str], what: str, fix: str) -> None:
    """Raise UsageError if the command line has one of the options `names`, which mean nothing without `what`."""
    for option in _given(context, names):
        raise UsageError(f"{option} has no effect without {what}", fix)


def _given(context: typer.Context, names: Sequence[str]) -> list[str]:
    sources = ((name, context.get_parameter_source(name)) for name in names)
    return [f"--{name.replace('_', '-')}" for name, source in sources if source is not None and source.name == "COMMANDLINE"]
