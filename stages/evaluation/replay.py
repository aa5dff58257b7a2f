"""Replaying the episodes of a report: read from its file, checked against the images at hand, and evaluated as they were."""

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
from stages.errors import InputError, LaatError
from stages.evaluation.chunks import digest_of
from stages.evaluation.points import protocol_episodes
from stages.evaluation.protocol import Protocol
from stages.reports.episode_file import SavedEpisodes, read_episodes
from stages.reports.parquet import AGAIN

DRAWN_OTHERWISE = "the episodes come from a file and are not those that their seed draws here"


@dataclass(frozen=True)
class Replay:
    """The episodes of a report.

    Attributes:
        where: how errors call the file.
        sha256: of the episodes in the file, whatever else its record says.
        data_sha256: of the images that the episodes number.
        protocol: with the numbers of the episodes; its shots are those of the first part.
        sweep: the numbers of shots, where the report was over several; else empty.
        parts: (group, protocol) in the report -> its episodes.
    """

    where: str
    sha256: str
    data_sha256: str | None
    protocol: Protocol
    sweep: tuple[int, ...]
    parts: Mapping[tuple[str, str], SavedEpisodes]

    @property
    def groups(self) -> list[str]:
        """The groups of classes that there are episodes of."""
        return list(dict.fromkeys(group for group, _ in self.parts))

    def check(self, groups: Sequence[str], sha256: str) -> None:
        """Raise InputError unless there are episodes of all the groups, and the images at hand are those that they number."""
        for name in groups:
            if name not in self.groups:
                raise InputError(f"{self.where} has no episodes of {name} classes", f"it has: {', '.join(self.groups)}")
        if sha256 != self.data_sha256:
            raise InputError(
                f"the episodes in {self.where} are of other images: sha256 {self.data_sha256}, and those at hand have {sha256}",
                "give --data, --split, --resize, --max-images and --max-per-class as they were then",
            )

    def episodes(self, name: str, group: ImageSet, protocol: Protocol, kept: np.ndarray) -> Episodes | None:
        """The episodes of the group called `name`, as positions in `group`; None where `protocol` draws the same.

        Args:
            name: of the group.
            group: its classes and images.
            protocol: ours, or of a sweep the one with its shots.
            kept: (N,) int64, ascending: the numbers of the group's images among all that were read.

        Raises InputError for a group, a class or an image that is not there, and for an image of another class.
        """
        part = self.parts.get((name, f"{protocol.shots}-shot" if self.sweep else self.protocol.name))
        if part is None:
            raise InputError(f"{self.where} has no episodes of {name} classes with {protocol.shots} shots", AGAIN)
        named = sorted({one for head in part.classes for one in head})
        found = match_classes(named, group.classes, wanted_from=self.where, available_from=f"the {name} classes")
        at = dict(zip(named, found, strict=True))
        classes = np.array([[at[one] for one in head] for head in part.classes], dtype=np.int64)
        support, query = (self._positions(images, classes, group, kept) for images in (part.support, part.query))
        saved = Episodes(torch.from_numpy(classes), support, query)
        drawn = protocol_episodes(group, protocol)
        same = all(torch.equal(one, other) for one, other in zip(vars(saved).values(), vars(drawn).values(), strict=True))
        return None if same else saved

    def _positions(self, images: np.ndarray, classes: np.ndarray, group: ImageSet, kept: np.ndarray) -> torch.Tensor:
        """Numbers of images (E, N, n) as positions in the group."""
        place = np.searchsorted(kept, images).clip(max=len(kept) - 1)
        strange = kept[place] != images
        strange |= group.labels.cpu().numpy()[place] != classes[:, :, None]
        if strange.any():
            number = int(images[strange][0])
            raise InputError(f"{self.where} puts image {number} in a class that it is not of", AGAIN)
        return torch.from_numpy(place)


def read_replay(path: Path) -> Replay:
    """Read the episodes beside a report. Raises InputError (see `parquet.read_table`), also for a record of other episodes."""
    where = f"'{path}'"
    parts, record = read_episodes(path)
    sha256 = digest_of(
        {"classes": [[part.group, part.protocol, part.classes] for part in parts]},
        *(column for part in parts for column in (part.support, part.query)),
    )
    try:
        protocol, sweep = _protocol(record["protocol"])
        found = {(part.group, part.protocol): part for part in parts}
        data = record["data_sha256"]
    except (KeyError, TypeError, ValueError, LaatError) as error:
        raise InputError(f"{where} does not say how its episodes were drawn: {error}", AGAIN) from None
    for part in parts:
        count, ways, queries = part.query.shape
        shots = part.support.shape[2]
        if (count, ways, queries) != (protocol.episodes, protocol.ways, protocol.queries) or shots not in (
            sweep or (protocol.shots,)
        ):
            raise InputError(f"{where} has {count} episodes of {ways} x {queries}, {shots} shots, unlike its record", AGAIN)
    return Replay(where, sha256, data, protocol, sweep, found)


def _protocol(record: Mapping[str, Any]) -> tuple[Protocol, tuple[int, ...]]:
    """The protocol of a report's record, and the shots of a sweep."""
    shots: int | Sequence[int] = record["shots"]
    sweep = () if isinstance(shots, int) else tuple(int(count) for count in shots)
    names = {"seed": "episode_seed", "ways": "ways", "queries": "queries", "episodes": "episodes"}
    numbers = {field: int(record[name]) for field, name in names.items()}
    first = shots if isinstance(shots, int) else sweep[0]
    return Protocol(str(record["name"]), shots=first, blend=float(record.get("blend", 0)), **numbers), sweep
