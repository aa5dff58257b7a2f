"""Finding the image and the label column of a table, by type or by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stages.classes import fold
from stages.errors import InputError, UsageError

STRINGS = ("string", "large_string", "string_view")


def image_column(features: Mapping[str, Any], named: str | None, *, source: str) -> str:
    """The image column: the one named, else the only Image column, else the only column of encoded bytes.

    Args:
        features: a `datasets.Features`.
        named: column name given by the user.
        source: name of the data, for messages.

    Raises UsageError when the named column does not exist or has no images, or when several columns qualify; InputError when
    none does.
    """
    import datasets

    typed = [name for name, feature in features.items() if isinstance(feature, datasets.Image)]
    raw = [name for name, feature in features.items() if _holds_bytes(feature)]
    return _choose("image", features, named, typed or raw, typed + raw, source)


def label_column(features: Mapping[str, Any], named: str | None, *, source: str, wanted: Sequence[str] | None = None) -> str:
    """The label column: the one named, else the only ClassLabel column, else the only string or integer column.

    Args, Raises: as for `image_column`.
        wanted: class names; among several ClassLabel columns, the only one that has all of them is chosen.
    """
    import datasets

    typed = [name for name, feature in features.items() if isinstance(feature, datasets.ClassLabel)]
    plain = [name for name, feature in features.items() if _kind(feature) in STRINGS or is_integer(feature)]
    candidates = typed or plain
    if len(typed) > 1 and wanted is not None:
        needed = {fold(name) for name in wanted}
        candidates = [name for name in typed if needed <= {fold(own) for own in features[name].names}]
        candidates = candidates if len(candidates) == 1 else typed
    return _choose("label", features, named, candidates, typed + plain, source)


def _choose(
    role: str, features: Mapping[str, Any], named: str | None, found: list[str], allowed: list[str], source: str
) -> str:
    """The named column, if it is allowed, or the only one found by its type."""
    if named is None and len(found) == 1:
        return found[0]
    if named in allowed:
        return named
    if named is None and found:
        raise UsageError(
            f"the data '{source}' has several {role} columns: {_listed(found)}", f"choose one with --{role}-column"
        )
    if named is None:
        columns = ", ".join(f"'{name}' ({_kind(feature)})" for name, feature in features.items()) or "no column at all"
        raise InputError(f"the data '{source}' has no {role} column, only {columns}", f"use data with a column of {role}s")
    if named not in features:
        problem, choices = f"the data '{source}' has no column '{named}'", list(features)
    else:
        problem = f"column '{named}' of the data '{source}' does not contain {role}s ({_kind(features[named])})"
        choices = allowed
    raise UsageError(problem, f"choose --{role}-column from {_listed(choices)}" if choices else "")


def is_integer(feature: Any) -> bool:
    """Whether the feature is a plain integer column."""
    return _kind(feature).startswith(("int", "uint")) and not hasattr(feature, "names")


def _holds_bytes(feature: Any) -> bool:
    if isinstance(feature, Mapping):  # an image written without the datasets library: {bytes, path}
        return "bytes" in feature and _holds_bytes(feature["bytes"])
    return _kind(feature) in ("binary", "large_binary", "binary_view")


def _kind(feature: Any) -> str:
    return str(getattr(feature, "dtype", type(feature).__name__))


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)
