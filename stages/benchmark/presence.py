"""Whether the data sets of a benchmark are there, before anything is computed. Needs no torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from stages.benchmark.spec import DataSet
from stages.data.folders.locate import HUB_ID, locate
from stages.data.folders.splits import split_kind
from stages.data.request import BUNDLED_DATA, ImageRequest

UNREACHABLE = "not downloaded, and the hub cannot be reached"


@dataclass(frozen=True)
class Presence:
    """Where a data set is.

    Attributes:
        one: the data set.
        data: what `--data` of `laat eval` would name; None if it is missing.
        where: in words: bundled, a folder, the hub's cache, the hub, or why it is missing.
        copied: whether it is a copy of the user's own, which may have another form than the source that the benchmark names.
    """

    one: DataSet
    data: str | None
    where: str
    copied: bool = False

    @property
    def in_folders(self) -> bool:
        """Whether it is a copy in class folders, where the benchmark may name a table."""
        return self.copied and self.data is not None and locate(self.data, self.one.layout).kind == "folders"

    def request(self) -> ImageRequest:
        """Which images to read; the columns of a table are not those of a copy in class folders."""
        assert self.data is not None
        found = self.one.request(self.data)
        return replace(found, image_column=None, label_column=None) if self.in_folders else found

    def split_of(self, splits: Sequence[str]) -> str | None:
        """The split to read of data that have `splits`.

        A copy in class folders without the split of the table is read by default: of flat folders all images. Joined splits,
        'train+test', are never left out: the default would be other images.
        """
        wanted = self.one.split
        if wanted is None or not self.in_folders or "+" in wanted:
            return wanted
        return wanted if split_kind(wanted) in map(split_kind, splits) else None


def find_all(data_sets: Iterable[DataSet], root: Path | None, *, online: bool) -> list[Presence]:
    """Where each data set is, see `find_data`; a hub that cannot be reached is asked once.

    Args:
        data_sets: of the benchmark.
        root: folder with the user's copies.
        online: whether to ask the hub for what its cache lacks; else only what is here counts.
    """
    found: list[Presence] = []
    offline = "" if online else "not downloaded"
    for one in data_sets:
        found.append(find_data(one, root, offline))
        if UNREACHABLE in found[-1].where:
            offline = UNREACHABLE
    return found


def find_data(one: DataSet, root: Path | None, offline: str = "") -> Presence:
    """Where a data set is: in a folder of the user's, bundled, at its path, or on the hub.

    Args:
        one: the data set.
        root: folder with the user's copies: ROOT/NAME is taken first, if it is there.
        offline: why the hub is not asked for what its cache lacks; '' asks it.
    """
    if root is not None and (root / one.name).exists():
        return Presence(one, str(root / one.name), f"{root / one.name}", copied=True)
    if one.data is None:
        return Presence(one, None, f"no source is known: put a copy at ROOT/{one.name} and give --root ROOT")
    path = one.folder / Path(one.data).expanduser()
    if one.data in BUNDLED_DATA or path.exists():
        return Presence(one, *((one.data, "bundled") if one.data in BUNDLED_DATA else (str(path), str(path))))
    return _on_hub(one, one.data, offline) if HUB_ID.fullmatch(one.data) else Presence(one, None, f"{path} does not exist")


def _on_hub(one: DataSet, data: str, offline: str) -> Presence:
    from stages.data.tables.hub import in_cache, refusal

    if in_cache(data):
        return Presence(one, data, f"{data}, in the hub's cache")
    reason = offline or (UNREACHABLE if (said := refusal(data)) is None else said)
    return Presence(one, None if reason else data, f"{data}, {reason or 'on the hub'}")


def missing_text(found: Iterable[Presence]) -> str:
    """All the data sets that are missing, each with the reason; '' if none is."""
    return "; ".join(f"'{one.one.name}' ({one.where})" for one in found if one.data is None)
