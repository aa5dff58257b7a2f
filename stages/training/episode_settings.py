"""What the settings of a training run say of batches that are episodes. Needs no torch."""

from __future__ import annotations

from typing import Any

from stages.data.episode_shape import PROTONET, EpisodeShape
from stages.errors import UsageError
from stages.text import counted

# what unset settings of episodes are with an episodic objective
OF_EPISODES = {"head": PROTONET, "ways": 5, "shots": 1, "queries": 15, "episodes_per_step": 4, "steps_per_epoch": None}


class EpisodeSettings:
    """The part of `TrainSettings` on episodes."""

    objective: str
    batch_size: int
    accumulate: int

    def check_episodic(self, *, episodic: bool) -> None:
        """Raise UsageError for settings of episodes without episodes, or of other batches with them, and for empty
        micro-batches.

        `episodic` is that of the objective.
        """
        given = [name for name in OF_EPISODES if getattr(self, name) is not None]
        if given and not episodic:
            option = f"--{given[0].replace('_', '-')}"
            raise UsageError(
                f"{option} is for batches of episodes, and --objective {self.objective} has none",
                "leave it out, or use --objective aq",
            )
        if episodic and self.batch_size != type(self).batch_size:
            raise UsageError(
                f"--batch-size {self.batch_size} has no meaning with --objective {self.objective}, whose batches are episodes",
                f"leave it out: a batch has --episodes-per-step {self.episodes} of {self.episode.images} images each",
            )
        most, what = (self.episodes, counted(self.episodes, "episode")) if episodic else (self.batch_size, str(self.batch_size))
        if self.accumulate > most:
            raise UsageError(
                f"--accumulate {self.accumulate} splits a batch of {what} into empty micro-batches",
                f"give at most --accumulate {most}",
            )

    @property
    def episode(self) -> EpisodeShape:
        """The episodes of an episodic objective."""
        return EpisodeShape(*(self.episode_values[name] for name in ("ways", "shots", "queries")))

    @property
    def episodes(self) -> int:
        """Episodes in a batch of an episodic objective."""
        return int(self.episode_values["episodes_per_step"])

    @property
    def episode_head(self) -> str:
        """The head of an episodic objective, one of `HEADS`."""
        return str(self.episode_values["head"])

    @property
    def episode_values(self) -> dict[str, Any]:
        """The settings of episodes by name, each as given or its default."""
        given = {name: getattr(self, name) for name in OF_EPISODES}
        return {name: OF_EPISODES[name] if value is None else value for name, value in given.items()}
