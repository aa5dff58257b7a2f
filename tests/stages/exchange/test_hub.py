"""Repositories of the hub: names, checkpoints from the cache or the network, and what errors say."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from huggingface_hub import constants

from stages.errors import InputError, MissingError, UsageError
from stages.exchange.hub import Repository, checkpoint_in, list_repository
from tests.stages.exchange.hub_server import Hub

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
