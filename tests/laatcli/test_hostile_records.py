"""Records that were forged, digest and all: what the fuzzer found, one case of each kind. In this process."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from safetensors.numpy import load, save
from typer.testing import CliRunner

from laatcli.app import app
from stages.files.artifact_record import NO_DIGEST, with_digest
from stages.files.artifacts import Artifact, read, write
from tests.laatcli.inside import inside


def laat(*args: object) -> Result:
    return CliRunner().invoke(app, [str(arg) for arg in args])


@pytest.fixture
def expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("names.txt").write_text("bear\ncat\ndog\nowl", encoding="utf-8")
    for args in (("anchors", "--classes", "names.txt", "--source", "random", "--seen", 3), ("expand", "anchors.st")):
        done = laat(*args)
        assert done.exit_code == 0, done.stderr
    return Path("expanded.st")


def forge(path: Path, old: str, new: str, tensors: dict[str, np.ndarray] | None = None) -> None:
    """Replace text in the record, and tensors, and make the digest anew."""
    data = path.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    text = json.loads(data[8 : 8 + length])["__metadata__"]["laat"]
    digest = json.loads(text)["digest"]
    assert old in text
    text = text.replace(digest, NO_DIGEST).replace(old, new, 1)
    path.write_bytes(with_digest(save({**load(data), **(tensors or {})}, metadata={"laat": text})))


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('"bear"', "7", "classes[0] is 7: input should be a valid string"),
        ('"bear"', '["bear"]', 'classes[0] is ["bear"]: input should be a valid string'),
        ('"bear"', r'"\ud800"', "has half a surrogate pair in it"),
        ('"bear"', r'"a\u0000b"', "has a NUL character in it"),
        ('"novel":[3]', '"novel":[3.0]', "groups.novel[0] is 3.0: input should be a valid integer"),
        ('"novel":[3]', '"novel":[1]', "the groups do not cover each of the 4 classes once"),
        ('"novel":[3]', '"novel":[9223372036854775808]', "the integer 9223372036854775808 has more than 64 bits"),
        ('"seed":0', '"seed":NaN', "NaN is not a finite number"),
        ('"seed":0', '"seed":1e999', "1e999 is not a finite number"),
        ('"seed":0', f'"seed":{"[" * 5000}{"]" * 5000}', "it is nested more than 100 levels deep"),
        ('"seed":0', '"seed":0,"seed":1', "the entry 'seed' is given twice"),
        ('"theta_max":', '"theta_max":1e9,"_":', "expansion.theta_max is 1000000000.0: input should be less than or equal to"),
        ('"kind":"anchors","sha256"', '"kind":7,"sha256"', "inputs.anchors.kind is 7: input should be a valid string"),
        ('"inputs":{"anchors":{', '"inputs":{"other":7,"anchors":{', "inputs.other is 7: input should be"),
    ],
)
def test_a_forged_record_is_one_line_that_names_it(expanded: Path, old: str, new: str, says: str) -> None:
    forge(expanded, old, new)
    commands = (
        ("inspect", expanded),
        ("inspect", expanded, "--json"),
        ("expand", "anchors.st", "--like", expanded, "-o", "o.st"),
    )
    for args in commands:
        done = laat(*args)
        assert (done.exit_code, done.stdout) == (3, ""), done
        [line] = done.stderr.splitlines()
        assert "'expanded.st' has a damaged laat record: " in line
        assert says in (json.loads(line)["what"] if line.startswith("{") else line)
    assert not Path("o.st").exists()


@pytest.mark.parametrize(
    ("vectors", "says"),
    [
        (np.full((4, 512), np.nan, np.float32), "tensor 'vectors' in 'expanded.st' is not finite: it has nan at [0, 0]"),
        (np.full((4, 512), -np.inf, np.float32), "tensor 'vectors' in 'expanded.st' is not finite: it has -inf at [0, 0]"),
        (np.eye(4, 512, dtype=np.int64), "has numbers of type int64, expected floating point"),
        (np.eye(4, 512, dtype=np.float32)[None], "tensor 'vectors' in 'expanded.st' has shape (1, 4, 512)"),
        (np.eye(3, 512, dtype=np.float32), "'expanded.st' names 4 classes for 3 anchors"),
    ],
)
def test_tensors_that_do_not_fit_the_record(expanded: Path, vectors: np.ndarray, says: str) -> None:
    forge(expanded, '"seed":0', '"seed":0', {"vectors": vectors})
    for args in (("inspect", expanded, "--json"), ("expand", "anchors.st", "--like", expanded, "-o", "o.st")):
        done = laat(*args)
        assert done.exit_code == 3, done
        assert says in done.stderr


def test_figures_of_large_numbers_are_json(expanded: Path) -> None:
    found = read(expanded)
    write(Artifact("anchors", {**found.tensors, "more": np.full(9, 3e38, np.float32)}, found.params), expanded)
    record = json.loads(laat("inspect", expanded, "--json").stdout)
    (more,) = (row for row in record["tensors"] if row["tensor"] == "more")
    assert more["mean"] == pytest.approx(3e38)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (f"seed = {'9' * 5000}", "is not a TOML file: Exceeds the limit"),
        (f"seed = {2**63}", "the integer 9223372036854775808 has more than 64 bits"),
        ('classes = "a\\u0000b"', "has a NUL character in it"),
        (f"classes = {'[' * 5000}", "is not a TOML file"),
        (f"{'a.' * 100_000}b = 1", "it has over 262,144 bytes, or 1,000 dots in a line"),
        (f"classes = '{'x' * 300_000}'", "it has over 262,144 bytes"),
    ],
)
def test_a_hostile_laat_toml_is_wrong_usage(tmp_path: Path, line: str, says: str) -> None:
    (tmp_path / "laat.toml").write_text(f"[anchors]\n{line}\n", encoding="utf-8")
    done = inside(tmp_path, "suites")
    assert done.code == 2, done
    assert says in done.stderr
