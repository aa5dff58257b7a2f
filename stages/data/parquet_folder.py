"""The parquet files of a folder, and the split that each belongs to."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from stages.data.splits import KEYWORDS, splits_of_stems
from stages.data.walk import walk, why_no_parquet
from stages.errors import InputError

SHARD = re.compile(r"(?P<name>.+)-\d{5}-of-(?P<count>\d{5})")


def parquet_files(path: Path) -> tuple[list[Path], Counter[str]]:
    """The parquet files of a folder, ascending, and the number of its other files by reason. Raises InputError."""
    found = walk(path, why_no_parquet)
    return sorted(path / file for file in found.files), found.passed


def parquet_splits(path: Path) -> dict[str, list[Path]]:
    """The parquet files of each split, in the order of their names.

    The split comes from the file's name ('train-00000-of-00002.parquet'), else from its folder's ('test/0000.parquet'). Files
    without a split in their name are `train` when no file has one, and a split of their own name otherwise.

    Raises InputError when the folder contains several data sets, and when names and folders name two splits.
    """
    if path.is_file():
        return {splits_of_stems([path.stem], last=True)[0] or "train": [path]}
    files, _ = parquet_files(path)
    homes = sorted({_home(file.relative_to(path).parent) for file in files})
    if len(homes) > 1:
        raise InputError(
            f"the folder '{path.name}' contains several data sets: {', '.join(homes)}",
            "give the folder or the file of one of them",
        )
    named = splits_of_stems([file.stem for file in files])
    of_files = {file: _split_of(file.relative_to(path), split) for file, split in zip(files, named, strict=True)}
    splits: dict[str, list[Path]] = {}
    for file, split in of_files.items():
        splits.setdefault(split or (file.stem if any(of_files.values()) else "train"), []).append(file)
    return splits


def check_shards(files: Sequence[Path]) -> tuple[str, ...]:
    """Notes on splits of which files are missing: 'train-00000-of-00002' says that there are two.

    Raises InputError when there are more files than that, which would read images twice.
    """
    shards = Counter((file.parent, match["name"], int(match["count"])) for file in files if (match := SHARD.match(file.stem)))
    names = Counter((parent, name) for parent, name, _ in shards)
    for (parent, name, count), found in shards.items():
        if found > count or names[parent, name] > 1:
            raise InputError(
                f"the files '{name}-…' in '{parent.name}' do not belong together: there are more than their names say, {count}",
                "keep those of one version of the data",
            )
    return tuple(f"'{name}' has {found} of {count} files" for (_, name, count), found in shards.items() if found < count)


def _split_of(file: Path, named: str | None) -> str | None:
    """The split of a file by its name and by the folders that it is in, which must agree."""
    folders = [part for part in file.parent.parts if part.casefold() in KEYWORDS]
    found = {KEYWORDS[part.casefold()] for part in folders} | ({named} if named else set())
    if len(found) > 1:
        raise InputError(
            f"the path '{file.as_posix()}' names two splits, {' and '.join(sorted(found))}",
            f"rename the file or its folder, or give the folder '{folders[0]}' itself",
        )
    return found.pop() if found else None


def _home(folder: Path) -> str:
    """The folder without parts such as 'data' or a split name; different for different data sets."""
    return "/".join(part for part in folder.parts if part != "data" and part.casefold() not in KEYWORDS) or "."
