"""How a run is executed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from stages.training.reports import EpochReport, Progress
from stages.world import World

_ALONE = World()


@dataclass(frozen=True)
class RunOptions:
    """How a run is executed; nothing here changes its result.

    Attributes:
        device: torch device.
        world: the processes that train together.
        cache: 'device' or 'ram', where images in memory are kept.
        resume: resume the unfinished run in the folder if there is one.
        force: replace the run in the folder; with `resume`, only another run.
        save_every: seconds between saved states; 0 saves after every step.
        log: 'tensorboard' or 'wandb', to log the figures of each epoch there too.
        on_step, on_epoch: called after steps (at most four times a second) and after every epoch.
        on_note, on_warning: called with what the user should know, one line of text each.
    """

    device: str = "cpu"
    world: World = _ALONE
    cache: str = "device"
    resume: bool = False
    force: bool = False
    save_every: float = 60.0
    log: str | None = None
    on_step: Callable[[Progress], None] | None = None
    on_epoch: Callable[[EpochReport], None] | None = None
    on_note: Callable[[str], None] | None = None
    on_warning: Callable[[str], None] | None = None
