"""The identity of a result: everything that determines it. It is stored with the result, so that a repeated command is up to
date, and a command with other inputs says which ones differ.

An identity has parts, each a mapping of names to JSON values: 'settings' (the options of the command), 'inputs' (digests),
'versions', and others that a stage adds. What may change figures by float rounding only is left out: device, threads, batch
size of an evaluation without random draws, version of PyTorch.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np

from stages.errors import UsageError
from stages.version import __version__

Identity = Mapping[str, Mapping[str, Any]]
# what to type when a result of other inputs is in the way
CHOOSE_OR_FORCE = "choose another file with -o, or replace it with --force"
CODE = "code"  # the part with the digests of the user's own modules
_PLURAL = ("anchors", "classes", "shapes", "weights", "adversarial images", "replayed episodes")
_LONG_FRACTION = re.compile(r"\d+/\d{4,}")
_SHORT = 12  # characters of a digest that are shown
_MOST = 60  # of another value


def digest_of(record: Any, *columns: np.ndarray) -> str:
    """SHA-256 (hex) over `record` (JSON-able) and the columns with their types and shapes."""
    found = hashlib.sha256(json.dumps(record, sort_keys=True, ensure_ascii=False).encode("utf-8", "surrogatepass"))
    for column in columns:
        found.update(f"\0{column.dtype.str}{column.shape}\0".encode())
        found.update(np.ascontiguousarray(column).data)
    return found.hexdigest()


def versions(**others: Any) -> dict[str, Any]:
    """The part 'versions': that of laat and `others`."""
    return {"laat": __version__, **others}


def differences(before: Identity, now: Identity) -> list[str]:
    """What differs between two identities, one text each: "--epochs was 2 and is 3"."""
    changed = []
    for part in dict.fromkeys((*now, *before)):
        if part == CODE and part not in before:  # of a version that did not record it
            continue
        old, new = before.get(part, {}), now.get(part, {})
        changed += [
            _difference(part, key, old.get(key), new.get(key))
            for key in dict.fromkeys((*new, *old))
            if old.get(key) != new.get(key)
        ]
    return changed


def require_same(before: Identity | None, now: Identity, what: str, fix: str) -> None:
    """Raise UsageError unless a result is the one that the command would make.

    Args:
        before: the identity stored with the result; None if there is none.
        now: that of the command.
        what: the beginning of the error, for example "'report.json' is the report of another evaluation".
        fix: what to type next.
    """
    if before is None:
        raise UsageError(what, fix)
    changed = differences(before, now)
    if changed:
        raise UsageError(f"{what}: {'; '.join(changed)}", fix)


def _difference(part: str, key: str, old: Any, new: Any) -> str:
    label = _label(part, key)
    if part == "models" and None in (old, new):
        return f"{label} ({_shown(old or new)}) {'was added' if old is None else 'was left out'}"
    was, now = ("were", "are") if key in _PLURAL and part != "settings" else ("was", "is")
    return f"{label} {was} {_shown(old)} and {now} {_shown(new)}"


def _label(part: str, key: str) -> str:
    labels = {
        "settings": f"--{key.replace('_', '-')}",
        "model": f"the model's {key}",
        "reference": f"the reference's {key}",
        "models": f"the model '{key}'",
        "selection": "the attack that scores epochs" if key == "attack" else f"the {key}",
        CODE: f"the code of {key}",
        "versions": f"the version of {key}",
    }
    return labels.get(part, f"the {key}")


def _shown(value: Any) -> str:
    """A value as the user writes it."""
    if value is None or isinstance(value, bool):
        return {None: "not given", False: "off", True: "on"}[value]
    if isinstance(value, Mapping) and "name" in value:
        value = value["name"]
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    if _LONG_FRACTION.fullmatch(text):
        text = str(float(Fraction(text)))
    most = _SHORT if len(text) == 64 else _MOST
    return text if len(text) <= most else f"{text[:most]}…"
