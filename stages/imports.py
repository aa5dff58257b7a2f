"""Custom backbones and objectives by import path: `package.module:name`."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from typing import Any

from stages.errors import MissingError, UsageError, nearest

_IMPORT_PATH = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")


def is_import_path(name: str) -> bool:
    """Whether `name` has the form `package.module:name`."""
    return _IMPORT_PATH.fullmatch(name) is not None


def import_by_path(path: str, option: str) -> Any:
    """Import `package.module:name`, also from the current folder.

    Args:
        path: the import path.
        option: the option or parameter, for errors.

    Raises:
        MissingError: the module cannot be imported.
        UsageError: the module has no such name.
    """
    module_name, _, name = path.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)  # last: a file there must not hide an installed package
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        fix = f"install the package that has '{module_name}', or start in its folder"
        raise MissingError(f"{option} {path}: {error}", fix) from error
    if not hasattr(module, name):
        known = [known for known in vars(module) if not known.startswith("_")]
        raise UsageError(f"{option} {path}: '{module_name}' has no '{name}'", f"nearest: {nearest(name, known)}")
    return getattr(module, name)
