"""A hub of the test's own, and pickles opened in this process where the test is not about the other one: it takes seconds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from stages.exchange import foreign_file
from tests.stages.exchange.hub_server import Hub, connected
from tests.stages.exchange.published import convert_here


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    with connected(tmp_path / "hub-cache") as found:
        yield found


@pytest.fixture
def no_child(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foreign_file.subprocess, "run", convert_here)
