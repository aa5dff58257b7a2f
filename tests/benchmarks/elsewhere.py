"""An object in another process, so that process-wide settings of `laat` do not affect it."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch

# (name of a method, its arguments) -> what it returns; an error there is raised here
Ask = Callable[..., Any]


@contextmanager
def elsewhere(make: Callable[..., Any], *arguments: Hashable) -> Iterator[Ask]:
    """Call methods of `make(*arguments)` in a separate process with as many threads; everything sent is pickled.

    The object is made by the first call and lives until the end of the context.
    """
    context, threads = multiprocessing.get_context("spawn"), (torch.get_num_threads(),)
    with ProcessPoolExecutor(1, mp_context=context, initializer=torch.set_num_threads, initargs=threads) as pool:
        yield lambda method, *values: pool.submit(_call, make, arguments, method, values).result()


@cache
def _made(make: Callable[..., Any], arguments: tuple[Hashable, ...]) -> Any:
    return make(*arguments)


def _call(make: Callable[..., Any], arguments: tuple[Hashable, ...], method: str, values: tuple[Any, ...]) -> Any:
    return getattr(_made(make, arguments), method)(*values)
