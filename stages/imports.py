"""Custom backbones and objectives by import path, `package.module:name`, and digests of their code."""

from __future__ import annotations

import hashlib
import importlib
import re
import sys
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

from stages.errors import MissingError, UsageError, nearest
from stages.text import first_line

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
        UsageError: the module has no such name, or importing it fails.
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
    except SystemExit as error:
        fix = "guard its main program with if __name__ == '__main__'"
        raise UsageError(f"{option} {path}: importing '{module_name}' ends the program", fix) from error
    except Exception as error:  # whatever the user's code raises
        what = f"{option} {path}: importing '{module_name}' fails with {type(error).__name__}: {first_line(error)}"
        raise UsageError(what, "correct the module") from error
    if not hasattr(module, name):
        known = [known for known in vars(module) if not known.startswith("_")]
        raise UsageError(f"{option} {path}: '{module_name}' has no '{name}'", f"nearest: {nearest(name, known)}")
    return getattr(module, name)


def code_of(*paths: str) -> dict[str, str]:
    """What identifies the code behind import paths: module -> SHA-256 of its file.

    Besides the modules themselves, these are the ones beside them whose names they use, and so on. Other names than import
    paths, and modules that are not imported, are passed over.
    """
    found: dict[str, str] = {}
    for path in filter(is_import_path, paths):
        start = path.partition(":")[0]
        home = _file_of(start).parent
        todo = [start]
        while todo:
            name = todo.pop()
            if name in found or not _is_beside(name, start, home):
                continue
            with suppress(OSError):
                found[name] = hashlib.sha256(_file_of(name).read_bytes()).hexdigest()
                todo += [_module_of(value) for value in list(vars(sys.modules[name]).values())]
    return dict(sorted(found.items()))


_INSTALLED = {"site-packages", "dist-packages"}


def _is_beside(name: str, start: str, home: Path) -> bool:
    """Whether a module is the module `start`, or is in its package or in its folder `home`, but not an installed one."""
    top, file = name.partition(".")[0], _file_of(name)
    if top == start.partition(".")[0]:
        return True
    return file.is_relative_to(home) and not _INSTALLED & set(file.parts) and top not in ("stages", "laatcli")


def _file_of(name: str) -> Path:
    return Path(getattr(sys.modules.get(name), "__file__", None) or "?")


def _module_of(value: object) -> str:
    return value.__name__ if isinstance(value, ModuleType) else str(getattr(value, "__module__", None))
