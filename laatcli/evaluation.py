"""The options of `laat eval`, read and checked before anything is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from laatcli.options import ATTACKS, option_names, refuse_given
from stages.attacks.spec import AttackSpec, check_fits, parse_attacks
from stages.attacks.suites import DEFAULT_SUITE, Suite, find_suite
from stages.conditions import KNOWLEDGE, WHITE_BOX
from stages.data.request import ImageRequest
from stages.errors import UsageError
from stages.evaluation.protocol import CLASS_MEANS, Protocol
from stages.evaluation.sample import Sample
from stages.parameters import check, parameter
from stages.threat import ThreatModel

if TYPE_CHECKING:
    from stages.evaluation.replay import Replay


@dataclass(frozen=True)
class AttackChoice:
    """The attacks to evaluate under: named ones, a suite, or saved images."""

    attack: list[str] | None = parameter(
        None,
        "fgsm, pgd-N, margin-pgd-N, dlr-pgd-N, cw-linf, apgd-ce, apgd-t, fab-t, square, …, or none; repeatable.",
        unset="those of the suite quick: pgd-20 and margin-pgd-20",
        panel=ATTACKS,
    )
    suite: str | None = parameter(None, "Run a named set of attacks; `laat suites` lists them.", panel=ATTACKS)
    adversarial: Path | None = parameter(
        None, "Evaluate the saved images of `laat attack` instead of running attacks.", panel=ATTACKS
    )
    knowledge: str | None = parameter(
        None,
        "What the attacker of --adversarial knows of MODEL: transfer (the images were made on another model) or oblivious "
        "(with the model's defence switched off, which is taken on trust: no file records it).",
        unset="white-box if the file was made on MODEL, else transfer",
        panel=ATTACKS,
        choices=KNOWLEDGE,
    )
    checks: bool = parameter(True, "Check on 64 samples whether the robust accuracies can be trusted.", panel=ATTACKS)
    strict_checks: bool = parameter(
        False, "Exit with 5 when a check fails or no check has enough points, after writing the report.", panel=ATTACKS
    )

    def __post_init__(self) -> None:
        check(self)
        if self.knowledge not in (None, WHITE_BOX) and self.adversarial is None:
            raise UsageError(
                f"--knowledge {self.knowledge} needs saved images: an attack that runs here knows the whole model",
                "make the images with `laat attack OTHER-MODEL --full`, and add --adversarial adversarial.st",
            )
        if self.suite is not None and (self.attack or self.adversarial is not None):
            raise UsageError("--suite cannot be combined with --attack or --adversarial", "leave one of them out")
        if self.strict_checks and not self.checks:
            raise UsageError("--strict-checks cannot be combined with --no-checks", "leave one of them out")

    @property
    def named(self) -> Suite | None:
        """The suite, also the one that runs by default; None for attacks by name and saved images."""
        if self.suite is None and (self.attack or self.adversarial is not None):
            return None
        return find_suite(self.suite or DEFAULT_SUITE)

    def specs(self) -> tuple[AttackSpec, ...]:
        """The attacks to run. Raises UsageError for an unknown one."""
        if self.named is not None:
            return self.named.specs()
        names = self.attack or []
        if "none" in names and len(names) > 1:
            raise UsageError("--attack none cannot be combined with another attack", "leave one of them out")
        return parse_attacks([name for name in names if name != "none"])

    def check_fits(self, threat: ThreatModel, ways: int | None) -> None:
        """Raise UsageError where the attacks cannot run under this threat model or on so many classes (None: not known yet)."""
        if self.named is not None:
            self.named.check_fits(threat, ways)
        else:
            check_fits(self.specs(), threat, ways)


@dataclass(frozen=True)
class Asked:
    """A protocol, with the numbers of shots of a sweep (none where there is one number) and episodes from a file, if any."""

    protocol: Protocol
    sweep: tuple[int, ...] = ()
    replay: Replay | None = None

    @property
    def gzsl(self) -> bool:
        """Whether seen and novel classes are candidates together."""
        return self.protocol.name == "gzsl"

    @property
    def ways(self) -> int | None:
        """Candidates of each decision, where the protocol says it."""
        return self.protocol.ways if self.protocol.name == "episodes" else None

    @property
    def groups(self) -> list[str]:
        """The groups of classes of the episodes from a file."""
        return [] if self.replay is None else self.replay.groups


def read_protocol(context: typer.Context, protocol: Protocol, shots: str, replay: Path | None) -> Asked:
    """The protocol with the shots that were asked for, '5' or '0,1,5', or the one of episodes from a file.

    Raises UsageError for shots that are not such numbers, for one given twice, for options on support images without any, for
    options on the command line that the file of episodes decides, and what `read_replay` raises.
    """
    if replay is not None:
        refuse_given(context, _OF_EPISODES, "--replay, whose file says how its episodes are made")
        from stages.evaluation.replay import read_replay

        found = read_replay(replay)
        return Asked(found.protocol, found.sweep, found)
    counts = _counts(shots)
    of_support = {
        "--head": protocol.head != CLASS_MEANS,
        "--blend": protocol.blend,
        "--support-embeddings": protocol.support_embeddings != "unit",
    }
    unused = [option for option, used in of_support.items() if used]
    if unused and (protocol.name != "episodes" or not any(counts)):
        raise UsageError(f"{unused[0]} needs support images", "give --protocol episodes and --shots 1 or more")
    if len(counts) > 1 and protocol.name != "episodes":
        raise UsageError(f"--shots {shots} is for episodes", "add --protocol episodes")
    return Asked(replace(protocol, shots=counts[0]), counts if len(counts) > 1 else ())


_OF_EPISODES = (*option_names(Protocol), "shots")
# the options that mean nothing for saved adversarial images
_OF_ATTACKS = (
    *(*_OF_EPISODES, "replay", "classes_from", "seed", "attack", "strict_checks"),
    *(*option_names(ImageRequest), *option_names(Sample), *option_names(ThreatModel)),
)


def check_together(
    context: typer.Context,
    asked: Asked,
    attacks: AttackChoice,
    *,
    classes_from: object,
    require: Sequence[str] | None,
) -> None:
    """Raise UsageError for options that contradict each other or have no effect, and for requirements on what is not measured.

    Those on saved images, whose file names the attack, are checked when it is read.
    """
    if attacks.adversarial is not None:
        refuse_given(
            context, (*_OF_ATTACKS, *["checks"] * attacks.checks), "--adversarial, whose file says what was attacked and how"
        )
    elif asked.protocol.name != "episodes":
        numbers = ("ways", "queries", "episodes", "episode_seed", *["shots"] * bool(asked.protocol.shots))
        refuse_given(context, numbers, f"--protocol {asked.protocol.name}", "add --protocol episodes")
    if asked.gzsl and classes_from:
        raise UsageError("--protocol gzsl takes all seen and novel classes together", "leave --classes-from out")
    if require and attacks.adversarial is None:
        from stages.reports.requirements import parse_requirements  # pydantic is slow to import

        parse_requirements(require, [spec.name for spec in attacks.specs()], gzsl=asked.gzsl)


def _counts(text: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")]
    for part in parts:
        if not part.removeprefix("-").isdecimal() or len(part) > 9:
            raise UsageError(f"--shots '{text}' is not a list of whole numbers", "write one number, or several as 0,1,5")
        if int(part) < 0:
            raise UsageError(f"--shots {part} is too few", "give --shots 0 or more")
    counts = tuple(int(part) for part in parts)
    twice = next((count for at, count in enumerate(counts) if count in counts[:at]), None)
    if twice is not None:
        raise UsageError(f"--shots {text} names {twice} twice", "name each number once")
    return counts
