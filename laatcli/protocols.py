"""The options of `laat eval` that say how images are put to the test, read and checked before anything is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from laatcli.console import Console
from stages.errors import UsageError
from stages.evaluation.protocol import Protocol

if TYPE_CHECKING:
    from stages.evaluation.replay import Replay
    from stages.models.classifier import Classifier


@dataclass(frozen=True)
class Asked:
    """A protocol, with the numbers of shots of a sweep (none where there is one number) and episodes from a file, if so."""

    protocol: Protocol
    sweep: tuple[int, ...] = ()
    replay: Replay | None = None

    @property
    def gzsl(self) -> bool:
        """Whether seen and novel classes are candidates together."""
        return self.protocol.name == "gzsl"

    @property
    def groups(self) -> list[str]:
        """The groups of classes of the episodes from a file."""
        return [] if self.replay is None else self.replay.groups


def read_protocol(protocol: Protocol, shots: str) -> Asked:
    """The protocol with the shots that were asked for, '5' or '0,1,5'.

    Raises UsageError for shots that are no such numbers, for one given twice, and for a blend where no images are shown.
    """
    counts = _counts(shots)
    if protocol.blend and (protocol.name != "episodes" or not any(counts)):
        raise UsageError("--blend mixes names with the images of shots", "give --protocol episodes and --shots 1 or more")
    if len(counts) > 1 and protocol.name != "episodes":
        raise UsageError(f"--shots {shots} is about episodes", "add --protocol episodes")
    numbers = {"episodes": protocol.episodes, "ways": protocol.ways, "queries": protocol.queries}
    for name, value in numbers.items() if protocol.name == "episodes" else ():
        if value < 1:
            raise UsageError(f"--{name} {value} is too few", f"give --{name} 1 or more")
    one = Protocol(protocol.name, protocol.ways, counts[0], protocol.queries, protocol.episodes, protocol.seed, protocol.blend)
    return Asked(one, counts if len(counts) > 1 else ())


_OF_THE_FILE = ("protocol", "ways", "shots", "blend", "queries", "episodes", "episode_seed")


def replayed(context: typer.Context, path: Path) -> Asked:
    """The protocol of episodes from a file.

    Raises UsageError for options on the command line that the file decides, and what `read_replay` raises.
    """
    _refuse_given(context, _OF_THE_FILE, "--replay, whose file says how its episodes are")
    from stages.evaluation.replay import read_replay

    found = read_replay(path)
    return Asked(found.protocol, found.sweep, found)


# what only evaluations that run attacks on images of --data know
_OF_ATTACKS = (
    *_OF_THE_FILE,
    *("replay", "attack", "norm", "eps", "checks", "strict_checks", "seed", "max_images", "max_per_class"),
    *("data", "split", "resize", "image_column", "label_column", "skip_corrupt", "classes", "classes_from"),
)


def refuse_beside_adversarial(context: typer.Context) -> None:
    """Raise UsageError for an option on the command line that says nothing of saved images."""
    _refuse_given(context, _OF_ATTACKS, "--adversarial, whose file says what was attacked and how")


def _refuse_given(context: typer.Context, names: Sequence[str], beside: str) -> None:
    for name in names:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            option = f"--{name.replace('_', '-')}"
            raise UsageError(f"{option} stands beside {beside}", f"leave {option} out")


def _counts(text: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")]
    for part in parts:
        if not part.removeprefix("-").isdecimal() or len(part) > 9:
            raise UsageError(f"--shots '{text}' is no list of whole numbers", "write one number, or several as 0,1,5")
        if int(part) < 0:
            raise UsageError(f"--shots {part} is too few", "give --shots 0 or more")
    counts = tuple(int(part) for part in parts)
    twice = next((count for at, count in enumerate(counts) if count in counts[:at]), None)
    if twice is not None:
        raise UsageError(f"--shots {text} names {twice} twice", "name each number once")
    return counts


def check_together(
    asked: Asked,
    *,
    classes_from: Sequence[str] | None,
    classes: str | None,
    anchors: Path | None,
) -> None:
    """Raise UsageError for options that say different things."""
    if asked.gzsl and classes_from:
        raise UsageError("--protocol gzsl takes all seen and novel classes together", "leave --classes-from out")
    if classes is not None and anchors is not None:
        raise UsageError("the classes are given twice, by --classes and by --anchors", "leave one of them out")


def with_named_classes(console: Console, classifier: Classifier, classes: str) -> Classifier:
    """The classifier over the names of a class file, encoded and expanded as its training anchors were.

    Raises what `read_class_file` and `Classifier.over` raise.
    """
    from stages.classes import read_class_file
    from stages.models.new_anchors import anchors_for_names

    names = read_class_file(classes)
    console.note(f"loading {classifier.trained.origin.get('model', 'the encoder')}")
    return classifier.over(anchors_for_names(classifier.trained, names, str(classifier.device), f"'{classes}'"))
