"""A tiny CLIP of random weights, for text encoders and image towers alike."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import open_clip
import pytest

from tests.stages.anchors.encoders import NAMED, tiny_config, tiny_folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_folder(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def named(tmp_path: Path) -> Iterator[str]:
    """A tiny architecture that open_clip knows by name, as it knows ViT-B-16."""
    config = tmp_path / f"{NAMED}.json"
    config.write_text(json.dumps(tiny_config()), encoding="utf-8")
    open_clip.add_model_config(config)
    yield NAMED
    open_clip.factory._MODEL_CONFIGS.pop(NAMED)
