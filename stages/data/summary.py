"""One line about the images that were read, so that a wrong reading is seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from stages.data.image_set import Contents, LabelledImages
from stages.data.source import Source


def summary_of(images: LabelledImages) -> str:
    """What was read: files, classes, images, files passed over by reason, and the range of each channel (0 to 255)."""
    about = images.provenance
    found = about.contents or Contents(None, len(images.classes), len(images) + about.skipped_corrupt)
    height, width = images.size
    parts = [
        *_files(found.files),
        _share(len(images.classes), found.classes, "class", "classes"),
        f"{_share(len(images), found.images, 'image', 'images')} of {width}x{height}",
        f"levels {_ranges(images.channel_ranges())}{f' with {about.white:g} as white' if about.white else ''}",
    ]
    others = f"; other splits: {', '.join(found.other_splits)}" if found.other_splits else ""
    passed = {**found.passed_over, **({"corrupt or unreadable": about.skipped_corrupt} if about.skipped_corrupt else {})}
    part = f"split '{'+'.join(about.splits)}'"
    if about.divided:
        some = len(about.divided_classes) < len(images.classes)
        whose = f" for {len(about.divided_classes)} of {len(images.classes)} classes" if some else ""
        part = f"{about.divided} part of its single split{whose}"
    return f"read '{about.source}' ({part}): {', '.join(parts)}{_passed_over(found.files, passed)}{others}"


def classes_summary_of(source: Source) -> str:
    """What was read for the class names alone."""
    found = source.contents(source.splits)
    parts = ", ".join([*_files(found.files), _share(found.classes, found.classes, "class", "classes")])
    names = ", ".join(f"'{split}'" for split in source.splits)
    return f"read the class names of '{source.name}' (splits {names}): {parts}{_passed_over(found.files, found.passed_over)}"


def _files(count: int | None) -> list[str]:
    return [] if count is None else [_share(count, count, "file", "files")]


def _share(count: int, of: int, one: str, several: str) -> str:
    return f"{count:,} {one if of == 1 else several}" if count == of else f"{count:,} of {of:,} {several}"


def _ranges(found: Sequence[tuple[int, int]]) -> str:
    return ", ".join(f"{low}-{high}" for low, high in found)


def _passed_over(files: int | None, passed: Mapping[str, int]) -> str:
    if files is None and not passed:
        return ""
    total = sum(passed.values())
    what = "images" if files is None else "files" if total != 1 else "file"
    reasons = f": {', '.join(f'{count:,} {reason}' for reason, count in passed.items())}" if passed else ""
    return f"; {total or 'no'} {what} passed over{reasons}"
