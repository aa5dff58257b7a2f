"""Finding the image and the label column of a table, by type or by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stages.classes import fold
from stages.errors import InputError, UsageError


def image_column(features: Mapping[str, Any], named: str | None, *, source: str) -> str:
    """The column of images: the one named, the only Image column, or the only column of encoded bytes.

    Args:
        features: a `datasets.Features`.
        named: column name given by the user.
        source: name of the data, for messages.

    Raises UsageError when the named column is missing or no image, or when several columns could be meant; InputError
    when none is an image.
    """
    import datasets

    typed = [name for name, feature in features.items() if isinstance(feature, datasets.Image)]
    raw = [name for name, feature in features.items() if _holds_bytes(feature)]
    if named is not None:
        _check_there(named, features, "image", source)
        if named not in typed + raw:
            raise UsageError(
                f"column '{named}' of the data '{source}' holds no images ({_kind(features[named])})",
                f"choose --image-column from {_listed(typed + raw)}" if typed + raw else "",
            )
        return named
    candidates = typed or raw
    if not candidates:
        raise InputError(f"the data '{source}' has no image column, only {_described(features)}", "use image data")
    if len(candidates) > 1:
        raise UsageError(
            f"the data '{source}' has several image columns: {_listed(candidates)}", "choose one with --image-column"
        )
    return candidates[0]


def label_column(features: Mapping[str, Any], named: str | None, *, source: str, wanted: Sequence[str] | None = None) -> str:
    """The column of labels: the one named, the only ClassLabel column, or else the only string or integer column.

    Args:
        features: a `datasets.Features`.
        named: column name given by the user.
        source: name of the data, for messages.
        wanted: class names; of several ClassLabel columns the only one that has all of them is taken.

    Raises UsageError when the named column is missing or no label, or when several columns could be meant; InputError
    when none can be a label.
    """
    import datasets

    typed = [name for name, feature in features.items() if isinstance(feature, datasets.ClassLabel)]
    plain = [name for name, feature in features.items() if is_string(feature) or is_integer(feature)]
    if named is not None:
        _check_there(named, features, "label", source)
        if named not in typed + plain:
            raise UsageError(
                f"column '{named}' of the data '{source}' holds no labels ({_kind(features[named])})",
                f"choose --label-column from {_listed(typed + plain)}" if typed + plain else "",
            )
        return named
    candidates = typed or plain
    if len(typed) > 1 and wanted is not None:
        candidates = [name for name in typed if _has_all(features[name].names, wanted)]
        candidates = candidates if len(candidates) == 1 else typed
    if not candidates:
        raise InputError(f"the data '{source}' has no label column, only {_described(features)}", "use data with a class a row")
    if len(candidates) > 1:
        raise UsageError(
            f"the data '{source}' has several columns that could be the label: {_listed(candidates)}",
            "choose one with --label-column",
        )
    return candidates[0]


def is_string(feature: Any) -> bool:
    """Whether the feature is a plain text column."""
    return _kind(feature) in ("string", "large_string", "string_view")


def is_integer(feature: Any) -> bool:
    """Whether the feature is a plain integer column."""
    return _kind(feature).startswith(("int", "uint")) and not hasattr(feature, "names")


def _has_all(names: Sequence[str], wanted: Sequence[str]) -> bool:
    return {fold(name) for name in wanted} <= {fold(name) for name in names}


def _holds_bytes(feature: Any) -> bool:
    if isinstance(feature, Mapping):  # an image written without the datasets library: {bytes, path}
        return "bytes" in feature and _holds_bytes(feature["bytes"])
    return _kind(feature) in ("binary", "large_binary", "binary_view")


def _kind(feature: Any) -> str:
    return str(getattr(feature, "dtype", type(feature).__name__))


def _check_there(named: str, features: Mapping[str, Any], role: str, source: str) -> None:
    if named not in features:
        raise UsageError(f"the data '{source}' has no column '{named}'", f"choose --{role}-column from {_listed(features)}")


def _listed(names: Any) -> str:
    return ", ".join(f"'{name}'" for name in names)


def _described(features: Mapping[str, Any]) -> str:
    return ", ".join(f"'{name}' ({_kind(feature)})" for name, feature in features.items()) or "no column at all"
