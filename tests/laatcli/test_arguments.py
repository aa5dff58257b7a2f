"""Arguments that no command can take: empty ones, bytes that are no text, and values of options without any."""

from __future__ import annotations

from pathlib import Path

import pytest

from laatcli.arguments import typed_arguments
from tests.laatcli.inside import inside


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("eval", "", "--data", "photos"), "the argument after 'eval' is empty"),
        (("--config", "", "suites"), "the argument after '--config' is empty"),
        (("expand", "a.st", "-o", ""), "the argument after '-o' is empty"),
        (("expand", "a.st", "--output="), "the value of --output is empty"),
        (("inspect", "--", ""), "the argument after '--' is empty"),
        (("",), "the first argument is empty"),
    ],
)
def test_an_empty_name_is_not_this_folder(tmp_path: Path, args: tuple[str, ...], says: str) -> None:
    done = inside(tmp_path, *args)
    assert (done.code, done.stderr) == (2, f"error: {says}. Give a value, or leave it out\n")


def test_only_a_home_folder_at_the_beginning_is_put_in_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    full = {"~/x": "/home/me/x", "~": "/home/me", "--out=~/x": "--out=/home/me/x", "local-dir:~/x": "local-dir:/home/me/x"}
    assert typed_arguments([*full]) == [*full.values()]
    same = ["./~/x", "a~/x", "~no-such-user/x", "x=~/y", "~1", "--template=a ~/ {}"]
    assert typed_arguments(same) == same


@pytest.mark.parametrize("command", ["anchors", "eval", "suites"])
def test_every_usage_error_names_the_help_of_its_command(tmp_path: Path, command: str) -> None:
    for wrong in ("--quiet=3", "--nonsense", "--seed"):
        assert f"`laat {command} --help` shows the options" in inside(tmp_path, command, wrong).stderr


def test_bytes_that_are_not_utf8_are_spelled_alike_everywhere(tmp_path: Path) -> None:
    name = "b\udce9l"
    for args in ((name,), ("anchors", "--source", name), ("inspect", name), ("report", "x", "--format", name)):
        assert "b\\xe9l" in inside(tmp_path, *args).stderr
