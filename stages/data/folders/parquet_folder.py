"""The parquet files of a folder, and the split that each belongs to."""

from __future__ import annotations

import filecmp
import re
import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from stages.data.folders.splits import FILLERS, KEYWORDS, SHARD, split_of_folder, splits_of_stems, words_of
from stages.data.folders.walk import walk, why_no_parquet
from stages.errors import InputError
from stages.text import as_text

_COPIES = frozenset(["copy", "bak", "backup", "orig", "old", "tmp"])


def parquet_files(path: Path) -> tuple[list[Path], Counter[str]]:
    """The parquet files of a folder, ascending, and the number of its other files by reason. Raises InputError."""
    found = walk(path, why_no_parquet)
    return sorted(path / file for file in found.files), found.passed


def parquet_splits(path: Path) -> dict[str, list[Path]]:
    """The parquet files of each split, in the order of their names.

    The split comes from the file's name ('train-00000-of-00002.parquet'), else from its folder's ('test/0000.parquet'). Files
    without a split in their name are `train` when no file has one, and a split of their own name otherwise.

    Raises InputError when the folder contains several data sets, when names and folders name two splits, when a name may mean a
    split that is not understood, and when a split seems to be there in two versions.
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
    of_files = {file: _split_of(path, file.relative_to(path), split) for file, split in zip(files, named, strict=True)}
    splits: dict[str, list[Path]] = {}
    for file, split in of_files.items():
        splits.setdefault(split or (as_text(file.stem) if any(of_files.values()) else "train"), []).append(file)
    if len(splits) == 1:
        _check_understood(files)
    for split, own in splits.items():
        _check_one_version(path, split, own)
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


def _check_understood(files: Sequence[Path]) -> None:
    """Raise InputError when files of one split differ in a word such as 'mytest', as the split would then be divided."""
    words: list[set[str]] = [set(words_of(file.stem)) for file in files]
    shared = set.intersection(*words)
    for file, own in zip(files, words, strict=True):
        unclear = sorted(word for word in own - shared if re.search("train|test|val", word))
        unclear = [word for word in unclear if word not in KEYWORDS]
        if unclear:
            raise InputError(
                f"the name '{file.name}' may name a split: '{unclear[0]}'",
                "write it as a word of its own (my-test.parquet), rename the file, or give one file as the data",
            )


def _check_one_version(path: Path, split: str, files: Sequence[Path]) -> None:
    """Raise InputError when two files of a split are versions of it, by their names or contents."""
    found = _other_words(path, files) or _same_names(files) or _same_contents(files)
    if found:
        names = " and ".join(f"'{file.relative_to(path).as_posix()}'" for file in found)
        raise InputError(
            f"{names} in '{path.name}' are two versions of the {split} split",
            f"keep one of them, or name parts of one split {split}-0.parquet, {split}-1.parquet",
        )


def _other_words(path: Path, files: Sequence[Path]) -> tuple[Path, Path] | None:
    """Two files with different words for the split, such as 'test' and 'eval', or of which one has a word such as 'copy'."""
    first: tuple[Path, set[str]] | None = None
    marked: dict[bool, Path] = {}
    for file in files:
        folders = filter(split_of_folder, file.relative_to(path).parent.parts)
        words = {word for part in (*folders, file.stem) for word in words_of(part)}
        marked.setdefault(bool(words & _COPIES), file)
        kinds = words & KEYWORDS.keys()
        first = first or ((file, kinds) if kinds else None)
        if first and kinds and not kinds & first[1]:
            return first[0], file
    return (marked[False], marked[True]) if len(marked) == 2 else None


def _same_names(files: Sequence[Path]) -> tuple[Path, Path] | None:
    """Two files whose names differ only in '(1)', signs, capitals, words such as 'set', or in being a shard."""
    seen: dict[tuple[str, ...], tuple[Path, tuple[Path, str]]] = {}
    for file in files:
        shard = SHARD.match(file.stem)
        own = (file.parent, shard["name"] if shard else file.name)  # shards of one name belong together
        other, its = seen.setdefault(_key(shard["name"] if shard else file.stem), (file, own))
        if its != own:
            return other, file
    return None


def _key(name: str) -> tuple[str, ...]:
    tokens = re.findall(r"[^\W\d_]+|\d+", re.sub(r"\s*\(\d+\)$", "", name))
    words = [word for token in tokens for word in (words_of(token) or [token])]
    if KEYWORDS.keys() & words:
        words = [word for word in words if word not in FILLERS]
    return tuple(words or [name])


def _same_contents(files: Sequence[Path]) -> tuple[Path, Path] | None:
    alike: dict[tuple[int, bytes], Path] = {}
    for file in files:
        try:
            size = file.stat().st_size
            with file.open("rb") as stream:
                stream.seek(max(0, size - 4096))  # the footer, which has the sizes and places of all columns
                other = alike.setdefault((size, stream.read()), file)
            if size and other != file and filecmp.cmp(other, file, shallow=False):
                return other, file
        except OSError:  # reading the table reports it
            continue
    return None


def _split_of(path: Path, file: Path, named: str | None) -> str | None:
    """The split of a file in `path` by its name and by the folders that it is in, which must agree."""
    folders = {folder: split for folder in reversed(file.parents) if (split := split_of_folder(folder.name))}
    found = set(folders.values()) | ({named} if named else set())
    if len(found) > 1:
        raise InputError(
            f"the path '{file.as_posix()}' names two splits, {' and '.join(sorted(found))}",
            f"rename the file or its folder, or give --data {shlex.quote(str(path / next(iter(folders))))}",
        )
    return found.pop() if found else None


def _home(folder: Path) -> str:
    """The folder without parts such as 'data' or a split name; different for different data sets."""
    return "/".join(part for part in folder.parts if part != "data" and not split_of_folder(part)) or "."
