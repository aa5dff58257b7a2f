"""What every test has: a cache of its own, so that none reads or writes the user's."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(os.environ, "LAAT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
