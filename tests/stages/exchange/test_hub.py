"""Repositories of the hub: names, checkpoints from the cache or the network, and what errors say."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from huggingface_hub import constants

import stages as laat
from stages.errors import InputError, MissingError, UsageError
from stages.exchange.hub import Repository, checkpoint_in, list_repository
from stages.exchange.model_request import ModelRequest
from stages.exchange.open_model import open_model
from stages.files import artifacts
from stages.models.checkpoint import checkpoint_of
from stages.models.embedding import EmbeddingModel
from tests.stages.anchors.encoders import tiny_folder
from tests.stages.exchange.hub_server import Hub
from tests.stages.models.test_checkpoint import anchors

NAME = "someone/a-model"


@pytest.mark.parametrize(
    ("text", "name", "revision"),
    [
        ("a/b", "a/b", None),
        ("hf-hub:Some-One/model_1.5", "Some-One/model_1.5", None),
        ("hf-hub:a/b@v1.0", "a/b", "v1.0"),
        ("a/b@refs/pr/1", "a/b", "refs/pr/1"),
    ],
)
def test_a_name_of_the_hub(text: str, name: str, revision: str | None) -> None:
    assert Repository.parse(text) == Repository(name, revision)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "a/",
        "/b",
        "a/b/c",
        "a b/c",
        "a/b\n",
        "a/b?x",
        "../b",
        "a/..",
        "a/b--c",
        "a/b..c",
        "-a/b",
        "a/b.",
        "a/b.git",
        "ä/b",
        "https://huggingface.co/a/b",
        "a/b@",
        "a/b@../x",
        "a/b@x y",
        f"a/{'b' * 97}",
        "a/b@v1@v2",
    ],
)
def test_odd_names_are_refused_without_asking(text: str, hub: Hub) -> None:
    with pytest.raises(UsageError, match="hub repository"):
        Repository.parse(text)
    assert not hub.asked


def test_a_revision_is_given_once() -> None:
    assert Repository.parse("a/b", "v1") == Repository("a/b", "v1")
    with pytest.raises(UsageError, match="given twice"):
        Repository.parse("a/b@v1", "v2")


def test_a_checkpoint_is_downloaded_once(hub: Hub) -> None:
    first = hub.add(NAME, {"model.st": b"one"})
    said: list[str] = []
    path = checkpoint_in(Repository(NAME), said.append)
    assert path is not None
    assert path.read_bytes() == b"one"
    assert said == [f"downloading model.st of {NAME}"]
    hub.add(NAME, {"model.st": b"two"})
    asked = list(hub.asked)
    assert checkpoint_in(Repository(NAME)) == path
    assert hub.asked == asked
    old = checkpoint_in(Repository(NAME, first))
    assert old is not None
    assert old.read_bytes() == b"one"


def test_another_revision_is_another_file(hub: Hub) -> None:
    hub.add(NAME, {"model.st": b"one"})
    second = hub.add(NAME, {"model.st": b"two"})
    found = checkpoint_in(Repository(NAME, second))
    assert found is not None
    assert found.read_bytes() == b"two"
    with pytest.raises(InputError, match="has no revision 'v9'"):
        checkpoint_in(Repository(NAME, "v9"))


def test_a_repository_without_a_checkpoint(hub: Hub) -> None:
    hub.add(NAME, {"open_clip_config.json": b"{}"})
    assert checkpoint_in(Repository(NAME)) is None


def test_what_you_may_not_see(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add(NAME, {"model.st": b"one"})
    hub.repos[NAME].private = True
    assert list_repository(Repository(NAME)).private
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    for name in (NAME, "no/such"):
        with pytest.raises(
            MissingError, match=f"'{name}' that you may read; check the name; .*`hf auth login`, or set HF_TOKEN"
        ):
            list_repository(Repository(name))


def test_a_hub_that_is_broken_or_switched_off(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.broken = 500
    with pytest.raises(MissingError, match=f"the hub at {hub.url} answers with an error: .*500"):
        list_repository(Repository(NAME))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(MissingError, match=f"'{NAME}' needs the hub, which is switched off by HF_HUB_OFFLINE"):
        checkpoint_in(Repository(NAME))


def test_no_network_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)

    def never(seconds: float) -> None:
        raise AssertionError(f"waits {seconds} s to try again")

    monkeypatch.setattr(time, "sleep", never)
    with pytest.raises(MissingError, match=r"the hub at http://127.0.0.1:9 cannot be reached: .*refused; .*set HF_ENDPOINT"):
        checkpoint_in(Repository(NAME))


def test_a_published_checkpoint_is_a_model(hub: Hub) -> None:
    net = EmbeddingModel("conv4-8", 5, 16, mean=(0.5,) * 3, std=(0.5,) * 3)
    made = checkpoint_of(net, anchors(width=5), {"settings": {"tau": 0.1}}, {}, image_size=16)
    whole = artifacts.to_bytes(made)
    commit = hub.add(NAME, {"model.st": whole})
    said: list[str] = []
    opened = open_model(f"hf-hub:{NAME}", progress=said.append)
    assert (opened.name, said) == (f"hf-hub:{NAME}", [f"downloading model.st of {NAME}"])
    assert opened.classifier.classes == anchors(width=5).classes
    hub.broken = 500  # from now on the cache answers
    assert laat.load(f"hf-hub:{NAME}", names=opened.classifier.classes[:2]).classes == opened.classifier.classes[:2]
    hub.broken = None
    hub.add(NAME, {"model.st": whole[:-9]})
    assert open_model(f"hf-hub:{NAME}@{commit}").lineage == opened.lineage
    with pytest.raises(InputError, match=r"model\.st' is damaged|model\.st' was damaged"):
        open_model(f"hf-hub:{NAME}@{hub.repos[NAME].history[-1][0]}")


def test_an_open_clip_model_of_a_revision(hub: Hub, tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path / "tiny")
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    commit = hub.add(NAME, files)
    hub.add(NAME, {"open_clip_config.json": b"{}"})
    opened = open_model(f"hf-hub:{NAME}@{commit}", ModelRequest(names=["red", "blue"]))
    assert opened.classifier.classes == ("red", "blue")
