"""An object in another process, so that process-wide settings of `laat` do not affect it."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any

import torch

# (name of a method, its arguments) -> what it returns; an error there is raised here
Ask = Callable[..., Any]

_make: Callable[[], Any]
_made: Any = None


@contextmanager
def elsewhere(make: Callable[..., Any], *arguments: Any) -> Iterator[Ask]:
    """Call methods of `make(*arguments)` in a separate process with as many threads; everything sent is pickled.

    The object is made by the first call and lives until the end of the context.
    """
    context = multiprocessing.get_context("spawn")
    given = (torch.get_num_threads(), make, arguments)
    with ProcessPoolExecutor(1, mp_context=context, initializer=_start, initargs=given) as pool:
        yield lambda method, *values: pool.submit(_call, method, values).result()


def _start(threads: int, make: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    global _make  # noqa: PLW0603
    torch.set_num_threads(threads)
    _make = lambda: make(*arguments)  # noqa: E731


def _call(method: str, values: tuple[Any, ...]) -> Any:
    global _made  # noqa: PLW0603
    if _made is None:
        _made = _make()
    return getattr(_made, method)(*values)
