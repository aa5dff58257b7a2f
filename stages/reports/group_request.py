"""How `laat report` puts several training runs in one row. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass

from stages.parameters import parameter

GROUPS = "Groups of training runs"  # the panel of --help


@dataclass(frozen=True)
class GroupRequest:
    """What runs are grouped by and averaged over, and the group that the others are compared with."""

    group_by: str | None = parameter(
        None,
        "One row for all runs that share these entries of their training (objective, anchors, backbone, epochs, every setting "
        "of laat train) or evaluation (protocol, shots, eps, suite, data), separated by commas. Where both have one, such as "
        "eps, training.eps is that of the training.",
        panel=GROUPS,
    )
    over: str | None = parameter(
        None,
        "What the runs of a row may differ in, entries of their training. Shown are the mean, its Student t 95 % interval "
        "over runs, and (standard deviation).",
        unset="seed",
        panel=GROUPS,
    )
    baseline: str | None = parameter(
        None,
        "Compare every row with this one, KEY=VALUE,KEY=VALUE or a name: the difference of runs with the same seed, image by "
        "image, with its 95 % interval for new seeds and new images, and that for other classes.",
        panel=GROUPS,
    )

    def entries(self) -> tuple[list[str], list[str]]:
        """The entries to group by and to average over."""
        return _parts(self.group_by or ""), _parts(self.over or "seed")


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]
