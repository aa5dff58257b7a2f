from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.attacks.spec import parse_attacks
from stages.errors import InputError
from stages.evaluation.protocol import Protocol
from stages.reports.model_records import Model
from stages.reports.records import Report
from stages.reports.report import make_report, read_report, report_bytes
from stages.reports.results import Row, summarise_rows
from stages.reports.rows import Judgement, PointRows
from stages.reports.verify import with_digest
from stages.statistics.intervals import Estimate
from stages.threat import ThreatModel


def rows_of(correct: dict[str, np.ndarray], episodes: int = 0) -> PointRows:
    """Rows with these decisions (P,) bool, one image each; the correct class is 0."""
    count = len(correct["clean"])
    none = np.zeros(count, np.float32)
    found = {name: Judgement(np.where(right, 0, 1).astype(np.int32), none, none) for name, right in correct.items()}
    episode = np.arange(count) * episodes // count if episodes else np.full(count, -1)
    clean = found.pop("clean")
    return PointRows(np.arange(count, dtype=np.int32), np.zeros(count, np.int32), episode.astype(np.int32), clean, found)


def report(protocol: Protocol | None = None) -> Report:
    correct = {"clean": np.array([1, 1, 1, 0], dtype=bool), "pgd-20": np.array([1, 0, 1, 0], dtype=bool)}
    episodes = 2 if protocol else 0
    return make_report(
        models=[Model(name="run", sha256="ab" * 32, objective="laat", anchors="expanded text")],
        data={"source": "shapes", "splits": ["test"]},
        protocol=(protocol or Protocol()).to_record(),
        attacks=parse_attacks(["pgd-20"]),
        threat=ThreatModel(Fraction(8, 255)),
        seed=0,
        rows=[Row("run", "novel", summarise_rows(rows_of(correct, episodes), classes=16, ways=2 if protocol else 16))],
        notes=["the classes were trained on"],
    )


EPISODES = Protocol("episodes", ways=2, shots=1, queries=1, episodes=2, seed=3)


def edited(change: dict[str, Any]) -> bytes:
    """A report with other entries, as JSON."""
    return json.dumps(report().to_record() | change).encode()


def test_a_report_says_what_was_measured_and_how() -> None:
    read = json.loads(report_bytes(report()))
    assert (read["kind"], read["schema_version"]) == ("laat-report", 4)
    assert read["threat"] == {"norm": "Linf", "eps": "8/255", "clip": [0.0, 1.0]}
    assert read["protocol"] == {"name": "all-way"}
    pgd = {"name": "pgd-20", "loss": "ce", "steps": 20, "step": "1/4 eps", "random_start": True}
    assert pgd.items() <= read["attacks"][0].items()
    assert read["notes"] == ["the classes were trained on"]
    (row,) = read["results"]
    assert (row["model"], row["group"], row["classes"], row["chance"], row["images"]) == ("run", "novel", 16, 1 / 16, 4)
    assert row["clean"]["accuracy"] == 0.75
    assert row["attacks"]["pgd-20"]["accuracy"] == row["worst"]["accuracy"] == 0.5
    assert row["worst"]["low"] < 0.5 < row["worst"]["high"]
    assert row["interval"] == "Wilson 95 % over images"


def test_an_episodes_report_carries_the_numbers_of_the_protocol() -> None:
    read = json.loads(report_bytes(report(EPISODES)))
    assert read["protocol"] == {
        "name": "episodes", "ways": 2, "shots": 1, "queries": 1, "episodes": 2, "episode_seed": 3, "blend": 0.0
    }  # fmt: skip
    assert read["results"][0]["interval"] == "Student t 95 % over episodes"
    assert read["results"][0]["chance"] == 0.5


def test_the_same_report_has_the_same_bytes() -> None:
    first = report_bytes(report())
    assert first == report_bytes(report())
    assert first.endswith(b"}\n")
    assert list(json.loads(first)) == sorted(json.loads(first))


def test_a_nan_never_gets_into_a_report() -> None:
    with pytest.raises(ValueError, match="finite number"):
        Estimate(float("nan"), 0.0, 1.0)


def test_a_report_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_bytes(report_bytes(report()))
    assert read_report(path) == with_digest(report())
    assert report_bytes(read_report(path)) == path.read_bytes()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"kind": "other"}, "is JSON, but not a report of laat"),
        ({"schema_version": 5}, "has schema version 5, this laat .* reads 2 to 4; upgrade laat"),
        ({"schema_version": None, "format": 1}, "has schema version None, this laat .* reads 2 to 4; evaluate again"),
        ({"threat": {"eps": "8/255"}}, "threat lacks 'clip'"),
        ({"seed": "0"}, 'is damaged or was edited: seed is "0": input should be a valid integer; evaluate again'),
        ({"results": []}, r"results is \[\]: list should have at least 1 item"),
        ({"more": 1}, "it has the unknown entry 'more'"),
    ],
)
def test_reports_that_cannot_be_read_are_refused(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    path = tmp_path / "report.json"
    path.write_bytes(edited(change))
    with pytest.raises(InputError, match=says):
        read_report(path)


def test_reports_of_the_first_format_are_refused_by_their_version(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text(json.dumps({"kind": "laat-report", "format": 1, "results": []}))
    with pytest.raises(InputError, match=r"has schema version 1, this laat .* reads 2 to 4; evaluate again with `laat eval`"):
        read_report(path)


def test_what_is_not_json_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    whole = report_bytes(report())
    for data in (b"", whole[: len(whole) // 2], b"\xff\xfe", whole.replace(b"0.75", b"NaN"), b"[" * 100_000):
        path.write_bytes(data)
        with pytest.raises(InputError, match="is cut short or damaged: "):
            read_report(path)
    with pytest.raises(InputError, match="does not exist"):
        read_report(tmp_path / "none.json")


def test_a_report_of_version_3_does_not_say_how_its_models_were_trained(tmp_path: Path) -> None:
    older = report().model_copy(update={"schema_version": 3})
    (tmp_path / "older.json").write_bytes(report_bytes(older))
    found = read_report(tmp_path / "older.json")
    assert (found.schema_version, found.models[0].training) == (3, None)
