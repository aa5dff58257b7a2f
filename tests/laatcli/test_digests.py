"""Files that were damaged or edited after they were written, and older files without a digest."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import Result
from safetensors.numpy import save
from typer.testing import CliRunner

from laatcli.app import app
from stages.files import artifacts


def laat(*args: object) -> Result:
    return CliRunner().invoke(app, [str(arg) for arg in args])


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    (tmp_path / "names.txt").write_text("bear\ncat\ndog", encoding="utf-8")
    done = laat("anchors", "--classes", tmp_path / "names.txt", "--source", "random", "-o", tmp_path / "raw.st")
    assert done.exit_code == 0, done.stderr
    return tmp_path / "raw.st"


def as_format_1(path: Path) -> Path:
    """The artifact as laat wrote it before there was a digest."""
    found = artifacts.read(path)
    record = {"format": 1, **{name: getattr(found, name) for name in ("inputs", "kind", "params", "tool")}}
    path.write_bytes(save(found.tensors, metadata={"laat": json.dumps(record, sort_keys=True)}))
    return path


def test_an_older_file_is_noted_once_on_standard_error(raw: Path, tmp_path: Path) -> None:
    old = as_format_1(raw)
    inspected, used = laat("inspect", old), laat("expand", old, "--like", old, "-o", tmp_path / "out.st")
    for done in (inspected, used):
        lines = [line for line in done.stderr.splitlines() if "raw.st' was written by an older laat" in line]
        assert len(lines) == 1, done.stderr
    assert "digest: none, unverified" in inspected.stdout
    record = json.loads(laat("inspect", old, "--json").stdout)
    assert (record["format"], record["verified"]) == (1, False)


def test_inspect_says_that_a_file_is_verified(raw: Path) -> None:
    done = laat("inspect", raw)
    assert (done.exit_code, done.stderr) == (0, "")
    assert "digest: verified" in done.stdout


def test_a_flipped_bit_is_one_line_and_exit_code_3(raw: Path) -> None:
    data = bytearray(raw.read_bytes())
    data[-1] ^= 1
    raw.write_bytes(data)
    done = laat("inspect", raw)
    assert (done.exit_code, done.stdout) == (3, "")
    [line] = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert "was damaged or edited after it was written: its digest differs" in line
