"""Replaying the episodes of a report: read from its file and checked against the images at hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stages.classes import match_classes
from stages.data.episodes import Episodes
from stages.data.image_set import ImageSet
from stages.errors import InputError
from stages.evaluation.points import protocol_episodes
from stages.evaluation.protocol import CLASS_MEANS, Protocol
from stages.identity import digest_of
from stages.reports.episode_file import SavedEpisodes, read_episodes
from stages.reports.parquet import AGAIN, OLDEST_VERSION

OTHER_EPISODES = "the episodes come from a file and differ from those that their seed samples here"


@dataclass(frozen=True)
class Replay:
    """The episodes of a report.

    Attributes:
        where: name of the file in errors.
        sha256: of the episodes in the file, without its metadata.
        data_sha256: of the images that the episodes refer to.
        protocol: with the first number of shots of a sweep.
        sweep: the numbers of shots of a sweep, or empty.
        saved: (group, protocol) in the report -> its episodes.
        by_position: whether images are numbered by their position in all evaluated images, as in older files.
    """

    where: str
    sha256: str
    data_sha256: str | None
    protocol: Protocol
    sweep: tuple[int, ...]
    saved: Mapping[tuple[str, str], SavedEpisodes]
    by_position: bool = False

    @property
    def groups(self) -> list[str]:
        """The groups of classes with episodes."""
        return list(dict.fromkeys(group for group, _ in self.saved))

    def check(self, groups: Sequence[str], sha256: str) -> None:
        """Raise InputError unless there are episodes of all groups, and the images at hand are those of the report."""
        for name in groups:
            if name not in self.groups:
                raise InputError(f"{self.where} has no episodes of {name} classes", f"it has: {', '.join(self.groups)}")
        if sha256 != self.data_sha256:
            raise InputError(
                f"the episodes in {self.where} are of other images: sha256 {self.data_sha256}, and those at hand have {sha256}",
                "give --data, --split, --resize, --max-images and --max-per-class as they were then",
            )

    def episodes(self, name: str, group: ImageSet, protocol: Protocol, kept: np.ndarray) -> Episodes | None:
        """The episodes of the group called `name`, as positions in `group`; None if `protocol` samples the same ones.

        Args:
            name: of the group.
            group: its classes and images.
            protocol: that of the report; for a sweep, with one of its numbers of shots.
            kept: (N,) int64, ascending: the positions of the group's images in all images, as older files name them.

        Raises InputError for a missing group, class or image, and for an image of another class.
        """
        saved = self.saved.get((name, f"{protocol.shots}-shot" if self.sweep else self.protocol.name))
        if saved is None:
            raise InputError(f"{self.where} has no episodes of {name} classes with {protocol.shots} shots", AGAIN)
        named = sorted({one for head in saved.classes for one in head})
        positions = match_classes(named, group.classes, wanted_from=self.where, available_from=f"the {name} classes")
        at = dict(zip(named, positions, strict=True))
        classes = np.array([[at[one] for one in head] for head in saved.classes], dtype=np.int64)
        numbers = kept if self.by_position else group.source_rows.index
        support, query = (self._positions(images, classes, group, numbers) for images in (saved.support, saved.query))
        found = Episodes(torch.from_numpy(classes), support, query)
        sampled = protocol_episodes(group, protocol)
        same = all(torch.equal(one, other) for one, other in zip(vars(found).values(), vars(sampled).values(), strict=True))
        return None if same else found

    def _positions(self, images: np.ndarray, classes: np.ndarray, group: ImageSet, numbers: np.ndarray) -> torch.Tensor:
        """Images (E, N, n) as positions in the group, whose images have these `numbers`."""
        order = np.argsort(numbers)
        place = order[np.searchsorted(numbers, images, sorter=order).clip(max=len(numbers) - 1)]
        wrong = (numbers[place] != images) | (group.labels.cpu().numpy()[place] != classes[:, :, None])
        if wrong.any():
            raise InputError(f"{self.where} has image {int(images[wrong][0])} in another class than the data", AGAIN)
        return torch.from_numpy(place)


def read_replay(path: Path) -> Replay:
    """Read the episodes saved with a report. Raises InputError (see `parquet.read_table`), also for inconsistent metadata."""
    where = f"'{path}'"
    saved, record = read_episodes(path)
    sha256 = digest_of(
        {"classes": [[one.group, one.protocol, one.classes] for one in saved]},
        *(column for one in saved for column in (one.support, one.query)),
    )
    if (record.get("protocol") or {}).get("name") != "episodes":
        raise InputError(f"{where} lacks the protocol of its episodes", AGAIN)
    protocol, sweep = _protocol(record["protocol"])
    for one in saved:
        count, ways, queries = one.query.shape
        shots, recorded = one.support.shape[2], (protocol.episodes, protocol.ways, protocol.queries)
        if (count, ways, queries) != recorded or shots not in (sweep or (protocol.shots,)):
            raise InputError(f"{where} has {count} episodes of {ways} x {queries}, {shots} shots, unlike its record", AGAIN)
    by_name = {(one.group, one.protocol): one for one in saved}
    by_position = record["schema_version"] == OLDEST_VERSION
    return Replay(where, sha256, record.get("data_sha256"), protocol, sweep, by_name, by_position)


def _protocol(record: Mapping[str, Any]) -> tuple[Protocol, tuple[int, ...]]:
    """The protocol of a report's record, and the shots of a sweep."""
    shots: int | list[int] = record["shots"]
    sweep = tuple(shots) if isinstance(shots, list) else ()
    names = {"seed": "episode_seed", "ways": "ways", "queries": "queries", "episodes": "episodes"}
    numbers = {field: record[name] for field, name in names.items()}
    first = shots if isinstance(shots, int) else shots[0]
    blend, support = float(record.get("blend") or 0), record.get("support_embeddings") or "unit"
    head = record.get("head") or CLASS_MEANS
    return Protocol(record["name"], shots=first, blend=blend, support_embeddings=support, head=head, **numbers), sweep
