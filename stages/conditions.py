"""What a threat model is applied to, and what its attacker knows: part of the threat model's record. Needs no torch.

The pixel grid is where the perturbation lives. Published programs differ: TeCoA's and PMG-AFT's perturb 32 px images and resize
them to 224 px inside the attack, RobustVLM's resizes to 224 px first. The same eps means another attack in each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from stages.errors import UsageError
from stages.parameters import check, parameter
from stages.text import listed

Knowledge = Literal["white-box", "transfer", "oblivious", "unknown"]
WHITE_BOX: Knowledge = "white-box"
TRANSFER: Knowledge = "transfer"
OBLIVIOUS: Knowledge = "oblivious"
UNKNOWN: Knowledge = "unknown"
KNOWLEDGE = (WHITE_BOX, TRANSFER, OBLIVIOUS)
RESIZES = ("bilinear", "bicubic", "bilinear-antialias", "bicubic-antialias")
NOT_RESIZED = "none"
DRAWS = 20  # what errors suggest for --eot, as AutoAttack's version for randomised defences


@dataclass(frozen=True)
class ModelUnderAttack:
    """How a model is attacked and evaluated; both are part of the model.

    Raises UsageError for a number of draws below 1 or an unknown interpolation.
    """

    eot: int = parameter(
        1,
        "For randomised models: attack and decide by the mean logits of N random draws (expectation over transformation); the "
        "gradient is that of the loss at this mean.",
        panel="Attacks",
        at_least=1,
    )
    resize_inside: str | None = parameter(
        None,
        "Perturb the images in their own size, and resize them to the model's input size inside the attack: bilinear or "
        "bicubic, with -antialias as Pillow does it.",
        unset="--resize, before the attack",
        panel="Attacks",
        choices=RESIZES,
    )

    def __post_init__(self) -> None:
        check(self)

    def to_settings(self) -> dict[str, Any]:
        """What the identity of a result records: the settings that differ from the defaults."""
        return {
            **({"eot": self.eot} if self.eot > 1 else {}),
            **({"resize_inside": self.resize_inside} if self.resize_inside else {}),
        }


@dataclass(frozen=True)
class Conditions:
    """The rest of a threat model's record.

    Attributes:
        grid: height and width of the images whose pixels are perturbed.
        outside: how images were brought to the grid before the attack: 'none', or interpolation and size.
        inside: how the model resizes them from the grid to its input, within the attack: the same.
        knowledge: of the attacker: 'white-box' knows the whole model, 'transfer' attacked another model, 'oblivious' the same
            model with its defence switched off.
    """

    grid: tuple[int, int]
    outside: str = NOT_RESIZED
    inside: str = NOT_RESIZED
    knowledge: Knowledge = WHITE_BOX

    def to_record(self) -> dict[str, Any]:
        """Entries of the threat model's record; JSON-able."""
        preprocessing = {"inside": self.inside, "outside": self.outside}
        return {"grid": list(self.grid), "knowledge": self.knowledge, "preprocessing": preprocessing}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Conditions | None:
        """The inverse of `to_record`; None for the record of an older laat, which has none of the entries."""
        if record.get("grid") is None or record.get("preprocessing") is None:
            return None
        height, width = record["grid"]
        return cls((height, width), **record["preprocessing"], knowledge=record.get("knowledge") or UNKNOWN)


def resized_outside(data: Mapping[str, Any]) -> str:
    """How the images of a provenance record were brought to the grid."""
    side = data.get("resize")
    return NOT_RESIZED if side is None else f"bicubic-antialias to {side}x{side}, centre crop"


def resized_inside(resizes: Mapping[str, str]) -> str:
    """How several models, name -> interpolation and size, resize the images: in one text."""
    found = dict.fromkeys(resizes.values())
    if len(found) < 2:
        return next(iter(found), NOT_RESIZED)
    return "; ".join(f"{how} in {listed([name for name, one in resizes.items() if one == how])}" for how in found)


def knowledge_of(asked: str | None, same: Mapping[str, bool | None], where: str) -> Knowledge:
    """What the attacker that made saved images knows of the models that they are evaluated on.

    Args:
        asked: what the user says, or None. 'oblivious' is taken on trust, also for images that were made on these models: a
            defence may be switched off by what no lineage records.
        same: name of each model -> whether the images were made on it; None if that is unknown.
        where: name of the images in errors.

    Raises UsageError where the models differ in it, because figures of two kinds never share a table, and where 'white-box' or
    'transfer' contradicts the lineage.
    """
    made_on = [name for name, one in same.items() if one]
    others = [name for name, one in same.items() if one is False]
    if asked == OBLIVIOUS:
        return OBLIVIOUS
    if made_on and others:
        raise UsageError(
            f"the images in {where} were made on {listed(made_on)} and not on {listed(others)}: the figures would be white-box "
            "and transfer, which never share a table",
            "evaluate the models one by one",
        )
    found = WHITE_BOX if made_on else TRANSFER if others else UNKNOWN
    if asked is not None and found not in (asked, UNKNOWN):
        on = listed(made_on or others)
        raise UsageError(
            f"--knowledge {asked}: the images in {where} were {'made' if made_on else 'not made'} on {on}",
            f"leave --knowledge out: they are recorded as {found}",
        )
    return found if found != UNKNOWN or asked is None else next(one for one in KNOWLEDGE if one == asked)
