"""Images without labels: files, folders, patterns and lists of paths, found while they are read."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from stages.data.folders.walk import Listing, Reject, list_folder, walk_each, why_no_image
from stages.errors import InputError, UsageError
from stages.files.reading import STDIO
from stages.text import as_text, counted, listed

_LINE_BYTES = 1 << 16  # of a path in a list; a longer line is no path


class ImagePaths:
    """The paths of images, in the order of the inputs; those of a folder by name, its own files before its folders.

    A folder is read when its turn comes, so the images need not be counted before the first one is used.

    Args:
        inputs: files, folders, patterns such as 'photos/*.png', and '-' for a list of paths.
        stream: has the list of '-': one path a line, each a file or a folder.
        null: the paths of the list end with a null byte instead.

    Attributes:
        found: number of paths so far.
        passed_over: reason -> number of files in folders that are not images.

    Raises:
        UsageError: no inputs, '-' without a list or more than once; while iterating, a list with null bytes without `null`.
        InputError: an input that does not exist; while iterating, inputs without any image.
    """

    def __init__(self, inputs: Sequence[str | os.PathLike[str]], stream: BinaryIO | None = None, *, null: bool = False) -> None:
        self._inputs = [os.fspath(one) for one in inputs]
        self._stream, self._null = stream, null
        if not self._inputs:
            raise UsageError("no images are named", "name image files, a folder, or - for a list of paths on standard input")
        if null and STDIO not in self._inputs:
            raise UsageError("-0 is about a list of paths on standard input", f"name it, as {STDIO}, or leave -0 out")
        if self._inputs.count(STDIO) > (stream is not None):
            raise UsageError(f"'{STDIO}' stands for one list of paths on standard input", "name it once")
        self._patterns = {one for one in self._inputs if one != STDIO and not os.path.lexists(one)}
        for one in sorted(self._patterns):
            _check_pattern(one)
        self.found = 0
        self.passed_over: Counter[str] = Counter()
        self._files_left = self._unlisted = 0  # paths that wait: files; and folders, patterns and lists
        self._many = [self._wait(one == STDIO or one in self._patterns or os.path.isdir(one)) for one in self._inputs]

    @property
    def expected(self) -> int | None:
        """The number of images in total; None as long as folders, patterns or a list wait to be read."""
        return None if self._unlisted else self.found + self._files_left

    def __iter__(self) -> Iterator[str]:
        for one, many in zip(self._inputs, self._many, strict=True):
            if one == STDIO and self._stream is not None:
                for path in _paths_in(self._stream, null=self._null):
                    yield from self._files(path, self._wait(os.path.isdir(path)))
                self._unlisted -= 1
            elif one in self._patterns:
                matches = [(path, self._wait(os.path.isdir(path))) for path in sorted(glob.iglob(one, recursive=True))]
                self._unlisted -= 1
                for path, folder in matches:
                    yield from self._files(path, folder)
            else:
                yield from self._files(one, many)
        if not self.found:
            passed = describe_passed(self.passed_over)
            where = "standard input" if self._inputs == [STDIO] else listed([as_text(one) for one in self._inputs], 3)
            raise InputError(
                f"there are no images in {where}{passed and f' ({passed})'}", "name image files or a folder with some"
            )

    def _wait(self, many: bool) -> bool:
        """Count something that waits, images that are not counted yet or a single one; returns `many`."""
        self._unlisted += many
        self._files_left += not many
        return many

    def _files(self, path: str, folder: bool) -> Iterator[str]:
        """The path itself or, of a folder, the images below it."""
        if not folder:
            self._files_left -= 1
            self.found += 1
            yield path
            return
        for inside, listing, waiting in walk_each(Path(path), why_no_image, list_one=_list_or_name):
            self.passed_over.update(listing.passed)
            self._unlisted -= not waiting
            self.found += len(listing.files)
            yield from (os.path.join(path, inside + name) for name in listing.files)


def describe_passed(passed_over: Counter[str]) -> str:
    """What was passed over in folders, for people: '3 files passed over: 2 hidden, 1 not an image'; empty for nothing."""
    reasons = [f"{count:,} {why}" if len(passed_over) > 1 else why for why, count in sorted(passed_over.items())]
    return f"{counted(passed_over.total(), 'file')} passed over: {', '.join(reasons)}" if reasons else ""


def _check_pattern(text: str) -> None:
    """Raise InputError for a path that does not exist, unless it is a pattern that something matches."""
    if not glob.has_magic(text):
        raise InputError(f"'{as_text(text)}' does not exist", "check the path")
    if next(glob.iglob(text, recursive=True), None) is None:
        raise InputError(f"no file matches '{as_text(text)}'", "check the pattern and the folder that you are in")


def _list_or_name(folder: Path, reject: Reject) -> Listing:
    """As `list_folder`; a folder that cannot be read is one path, so that reading it reports why and the rest goes on."""
    try:
        return list_folder(folder, reject)
    except InputError:
        return Listing([""], [], [], Counter())


def _paths_in(stream: BinaryIO, *, null: bool) -> Iterator[str]:
    """The paths in a list, without empty ones."""
    for part in _split(stream, b"\0") if null else _lines(stream):
        if part:
            yield os.fsdecode(part)


def _lines(stream: BinaryIO) -> Iterable[bytes]:
    while line := stream.readline(_LINE_BYTES):
        if b"\0" in line:
            raise UsageError("the list of paths has null bytes", "add -0 if they end the paths, as of `find -print0`")
        yield line.rstrip(b"\r\n")


def _split(stream: BinaryIO, end: bytes) -> Iterator[bytes]:
    rest = b""
    while block := stream.read(_LINE_BYTES):
        *parts, rest = (rest + block).split(end)
        yield from parts
    yield rest
