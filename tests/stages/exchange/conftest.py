"""A hub of the test's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stages.exchange.hub_server import Hub, connected


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    with connected(tmp_path / "hub-cache") as found:
        yield found
