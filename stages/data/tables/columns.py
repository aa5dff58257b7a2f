"""Finding the image and the label column of a table, by type or by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stages.classes import fold
from stages.errors import InputError, UsageError
from stages.text import listed

TEXT = ("string", "large_string", "string_view")
BYTES = ("binary", "large_binary", "binary_view")
INTEGERS = tuple(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))
FRACTIONS = ("float16", "float32", "float64", "halffloat", "decimal")  # labels where all of them are whole, as pandas writes
NUMBERS = (*INTEGERS, *FRACTIONS)
_WHAT = {
    "image": "an image is the content of an image file: a column of type Image, binary or {bytes, path}",
    "label": "a label is text, a whole number, true or false, or a ClassLabel, one for each image",
}


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
    """The label column: the one named, else the only one of class labels, else of text or integers, else of other such values.

    Args, Raises: as for `image_column`.
        wanted: class names; among several ClassLabel columns, the only one that has all of them is chosen.
    """
    import datasets

    typed = [name for name, feature in features.items() if isinstance(feature, datasets.ClassLabel)]
    untyped = {name: kind_of(feature) for name, feature in features.items() if name not in typed}
    plain = [name for name, kind in untyped.items() if kind in (*TEXT, *INTEGERS)]
    other = [name for name, kind in untyped.items() if kind in ("bool", *FRACTIONS)]
    candidates = typed or plain or other
    if len(typed) > 1 and wanted is not None:
        needed = {fold(name) for name in wanted}
        candidates = [name for name in typed if needed <= {fold(own) for own in features[name].names}]
        candidates = candidates if len(candidates) == 1 else typed
    return _choose("label", features, named, candidates, typed + plain + other, source)


def _choose(
    role: str, features: Mapping[str, Any], named: str | None, found: list[str], allowed: list[str], source: str
) -> str:
    """The named column, if it is allowed, or the only one found by its type."""
    if named is None and len(found) == 1:
        return found[0]
    if named in allowed:
        return named
    if named is None and found:
        raise UsageError(f"the data '{source}' has several {role} columns: {listed(found)}", f"choose one with --{role}-column")
    if named is None:
        columns = ", ".join(f"'{name}' ({kind_of(feature)})" for name, feature in features.items()) or "no column at all"
        raise InputError(
            f"the data '{source}' has no {role} column, only {columns}; {_WHAT[role]}", f"write such a column of {role}s"
        )
    if named not in features:
        problem, choices = f"the data '{source}' has no column '{named}'", list(features)
    else:
        kind = kind_of(features[named])
        problem = f"column '{named}' of the data '{source}' does not contain {role}s ({kind}); {_WHAT[role]}"
        choices = allowed
    choose = f"choose --{role}-column from {listed(choices)}"
    raise UsageError(problem, choose if choices else f"write such a column of {role}s")


def kind_of(feature: Any) -> str:
    """The type of a column in words, such as 'int64' or 'list of uint8'; 'decimal' whatever its digits."""
    import datasets

    if isinstance(feature, str):  # a type that the datasets library does not have
        return feature
    if isinstance(feature, Mapping):
        return f"{{{', '.join(f'{name}: {kind_of(inner)}' for name, inner in feature.items())}}}"
    inner = getattr(feature, "feature", None)
    if inner is not None:
        return f"list of {kind_of(inner)}"
    kind = str(feature.dtype) if isinstance(feature, datasets.Value) else type(feature).__name__
    return "decimal" if kind.startswith("decimal") else kind


def not_utf8(where: str, error: UnicodeDecodeError) -> InputError:
    """The error for text in a table, named `where`, that is not UTF-8."""
    what = f"{where} has text that is not UTF-8 ({bytes(error.object[:20])!r})"
    return InputError(what, "write the table again with UTF-8 text")


def alike(feature: Any) -> Any:
    """What two columns that can be read as one have in common: text, bytes and numbers have several types each."""
    if isinstance(feature, Mapping):
        return {name: alike(inner) for name, inner in feature.items()}
    kind = kind_of(feature)
    for name, kinds in (("text", TEXT), ("bytes", BYTES), ("number", NUMBERS)):
        if kind in kinds:
            return name
    return feature


def _holds_bytes(feature: Any) -> bool:
    if isinstance(feature, Mapping):  # an image written without the datasets library: {bytes, path}
        return "bytes" in feature and _holds_bytes(feature["bytes"])
    return kind_of(feature) in BYTES
