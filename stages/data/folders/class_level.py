"""Folders above or below the level of the classes, as in published data sets and repositories: refused with what to type.

A folder such as `images` or `data` is no class, and neither is a folder whose images all lie in several folders of its own.
"""

from __future__ import annotations

import os.path
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from stages.data.folders.walk import Found
from stages.errors import InputError
from stages.text import listed

GENERIC = frozenset(["data", "dataset", "images", "image", "imgs", "img", "jpg", "jpeg", "jpegimages", "png", "pictures"])


def is_generic(name: str) -> bool:
    """Whether a folder is called what it contains, and not after a class."""
    return name.casefold() in GENERIC


def groups_in(inner: Mapping[str, Found]) -> list[str]:
    """The folders that the images in the folders `inner` lie in, sorted: the first level at which they lie in several.

    Generic names are no groups.
    """
    named = [[part for part in parts if not is_generic(part)] for parts in _homes(inner)]
    while named and all(len(parts) > 1 and parts[0] == named[0][0] for parts in named):
        named = [parts[1:] for parts in named]
    return sorted({parts[0] for parts in named if parts})


def check_level(
    path: Path, name: str, folders: Mapping[str, tuple[Found, Mapping[str, Found]]], split: str | None = None
) -> None:
    """Raise InputError where folders read as classes are not at the level of the classes.

    Args:
        path: the data.
        name: of it, for messages.
        folders: each folder with an image -> the images directly in it, and those of each folder in it.
        split: the folder of the split that contains `folders`; None where they are directly in the data.
    """
    groups = {top: groups_in(inner) for top, (_, inner) in folders.items()}
    generic = next((top for top in folders if is_generic(top)), None)
    alone = next(iter(folders)) if len(folders) == 1 else None
    above = generic or alone
    where = name if split is None else f"{name}/{split}"
    as_classes = f"read the folders {'' if split is None else 'in the splits '}as classes with --layout "
    as_classes += "classes" if split is None else "splits"
    if above is not None and len(groups[above]) > (above != generic) and not folders[above][0].files:
        here = _above(above, folders[above][1], groups[above])
        move = f"give --data {shlex.quote(f'{path}/{here}')}" if split is None else f"move these folders to '{path}/{split}'"
        raise InputError(
            f"the folder '{where}' has its images in '{here}', in the folders {listed(groups[above], 4)}",
            f"{move}, or {as_classes}",
        )
    if generic is not None:
        raise InputError(
            f"the folder '{generic}' of '{where}' contains images without class folders",
            f"put them into one folder per class, or {as_classes}",
        )
    several = [top for top, found in groups.items() if len(found) > 1]
    if not several and len({tuple(found) for found in groups.values()}) == len(groups) > 1 and all(groups.values()):
        several = list(groups)  # each folder has its images in one other folder
    if several and not any(own.files for own, _ in folders.values()):
        raise InputError(
            f"the folder '{where}' can be read as the classes {listed(list(folders), 4)} or as groups of the classes in them: "
            f"'{several[0]}' contains {listed(groups[several[0]], 4)}",
            f"{as_classes}, or put the folders of all classes into one folder",
        )


def check_split_level(classes: Mapping[str, Mapping[str, Sequence[str]]], name: str) -> None:
    """Raise InputError where a split has its images in `images` and the like alone, and another one has class folders."""
    filled = {split: [one for one, files in found.items() if files] for split, found in classes.items()}
    bare = [split for split, found in filled.items() if found and all(map(is_generic, found))]
    if bare and any(not is_generic(one) for found in filled.values() for one in found):
        folders = " and ".join(f"'{filled[split][0]}' of the {split} split" for split in bare)
        raise InputError(
            f"the data '{name}' has images without class folders: in {folders}",
            "put them into one folder per class, as the list of labels beside them says, or give the folder of the other split",
        )


def _above(top: str, inner: Mapping[str, Found], groups: Sequence[str]) -> str:
    """The folder, at or below `top`, in which the groups are."""
    shared = os.path.commonpath(["/".join(home) for home in _homes(inner)])
    if len(groups) == 1:
        shared = f"/{shared}/".partition(f"/{groups[0]}/")[0].strip("/")
    return f"{top}/{shared}".rstrip("/")


def _homes(inner: Mapping[str, Found]) -> list[list[str]]:
    """The folders that each image in the folders `inner` lies in, from the outermost."""
    return [f"{name}/{file}".split("/")[:-1] for name, found in inner.items() for file in found.files]
