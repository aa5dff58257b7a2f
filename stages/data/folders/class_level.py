"""Folders above or below the level of the classes, as in published data sets and repositories: refused with what to type.

A folder such as `images` or `data` is no class, and neither is a folder whose images all lie in several folders of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from stages.data.folders.walk import Found
from stages.errors import InputError

GENERIC = frozenset(["data", "dataset", "images", "image", "imgs", "img", "jpg", "jpeg", "jpegimages", "png", "pictures"])
_AS_CLASSES = "read the folders as classes with --layout classes"


def is_generic(name: str) -> bool:
    """Whether a folder is called what it contains, and not after a class."""
    return name.casefold() in GENERIC


def groups_in(inner: Mapping[str, Found]) -> list[str]:
    """The folders that the images in the folders `inner` lie in, sorted: below generic names, which are no groups."""
    paths = (f"{name}/{file}".split("/")[:-1] for name, found in inner.items() for file in found.files)
    named = ([part for part in parts if not is_generic(part)] for parts in paths)
    return sorted({parts[0] for parts in named if parts})


def check_level(path: Path, name: str, folders: Mapping[str, tuple[Found, Mapping[str, Found]]]) -> None:
    """Raise InputError where folders read as classes are not at the level of the classes.

    Args:
        path: the data.
        name: of it, for messages.
        folders: each folder in it with an image -> the images directly in it, and those of each folder in it.
    """
    groups = {top: groups_in(inner) for top, (_, inner) in folders.items()}
    generic = next((top for top in folders if is_generic(top)), None)
    alone = next(iter(folders)) if len(folders) == 1 else None
    above = generic or alone
    if above is not None and len(groups[above]) > 1 and not folders[above][0].files:
        deepest = _above(folders[above][1], groups[above])
        raise InputError(
            f"the folder '{name}' has its images in '{above}', in the folders {_listed(groups[above])}",
            f"give --data {'/'.join([str(path), above, *deepest])}, or {_AS_CLASSES}",
        )
    if generic is not None:
        raise InputError(
            f"the folder '{generic}' of '{name}' contains images without class folders",
            f"put them into one folder per class, or {_AS_CLASSES}",
        )
    nested = next((top for top, found in groups.items() if len(found) > 1), None)
    if nested is not None and not any(own.files for own, _ in folders.values()):
        raise InputError(
            f"the folder '{name}' can be read as the classes {_listed(list(folders))} or as groups of the classes in them: "
            f"'{nested}' contains {_listed(groups[nested])}",
            f"{_AS_CLASSES}, or put the folders of all classes into one folder",
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


def _above(inner: Mapping[str, Found], groups: Sequence[str]) -> list[str]:
    """The generic folders between a folder and its groups."""
    parts = next(f"{name}/{file}".split("/") for name, found in inner.items() for file in found.files)
    return parts[: next((at for at, part in enumerate(parts) if part in groups), 0)]


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:4])
    return f"{shown} and {len(names) - 4} more" if len(names) > 4 else shown
