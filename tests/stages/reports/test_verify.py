"""A report that was damaged or edited after it was written is refused, also by the rows beside it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.errors import InputError, UnverifiedWarning
from stages.evaluation.protocol import Protocol
from stages.files.records import json_digest
from stages.reports.compare import Source, compare_reports
from stages.reports.episode_file import episodes_path, read_episodes
from stages.reports.report import read_report
from stages.reports.row_file import default_rows_path
from stages.reports.verify import rows_of_report
from tests.stages.reports.test_compare import EPISODES, save


@pytest.fixture
def path(tmp_path: Path) -> Path:
    save(tmp_path / "report.json", {"raw": 1.0})
    return tmp_path / "report.json"


def flipped(data: bytes, count: int) -> list[bytes]:
    """The data with one bit flipped, at `count` random places."""
    places = np.random.default_rng(0).choice(8 * len(data), count, replace=False).tolist()
    return [data[: at // 8] + bytes([data[at // 8] ^ 1 << at % 8]) + data[at // 8 + 1 :] for at in places]


def edit(path: Path, change: Callable[[dict[str, Any]], object], *, version: int = 3, digest: bool = True) -> None:
    """Edit a report, with a digest that fits (which no one computes by hand) or none."""
    record = json.loads(path.read_text(encoding="utf-8"))
    change(record)
    record["schema_version"] = version
    del record["digest"]
    path.write_text(json.dumps(record | ({"digest": json_digest(json.dumps(record))} if digest else {})), encoding="utf-8")


def test_the_rows_of_a_report_on_standard_input_need_its_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path.parent.parent)
    with pytest.raises(InputError, match="does not exist; name the file of the report: its rows are beside it"):
        rows_of_report(read_report(path), Path("-"))


@pytest.mark.parametrize("name", ["report.json", "report.rows.parquet"])
def test_300_flipped_bits_are_found(name: str, path: Path) -> None:
    place = path.with_name(name)
    for data in flipped(place.read_bytes(), 300):
        place.write_bytes(data)
        with pytest.raises(InputError):
            read_report(path)


def test_other_episodes_beside_a_report_are_found(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    save(path, {"raw": 1.0}, EPISODES)
    assert read_report(path).protocol.name == "episodes"
    place = episodes_path(default_rows_path(path))
    place.write_bytes(flipped(place.read_bytes(), 1)[0])
    with pytest.raises(InputError, match=r"report\.episodes\.parquet' is not the file written with the report"):
        read_report(path)


def test_episodes_that_were_damaged_are_never_read_as_others(tmp_path: Path) -> None:
    save(tmp_path / "report.json", {"raw": 1.0}, EPISODES)
    place = tmp_path / "report.episodes.parquet"
    whole, refused = repr(read_episodes(place)), 0
    for data in flipped(place.read_bytes(), 100):
        place.write_bytes(data)
        try:
            # not everything in a parquet file is used
            assert repr(read_episodes(place)) == whole
        except InputError:
            refused += 1
    assert refused > 50


@pytest.mark.parametrize(
    "change",
    [
        lambda report: report["models"][0].update(name="ours"),
        lambda report: report["notes"].append("not trained on these"),
        lambda report: report["threat"].update(eps="16/255"),
        lambda report: report["data"].update(source="cifar"),
        lambda report: report["results"][0]["clean"].update(low=0.0),
        lambda report: report.pop("digest"),
        lambda report: report.update(digest=None),
        lambda report: report.update(digest="0" * 64),
        lambda report: report.update(schema_version=2),
    ],
)
def test_an_edited_entry_is_found(change: Callable[[dict[str, Any]], object], path: Path) -> None:
    record = json.loads(path.read_text(encoding="utf-8"))
    change(record)
    path.write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(InputError, match=r"report\.json' (was damaged or edited after it was written: its digest|is damaged)"):
        read_report(path)


def higher(report: dict[str, Any]) -> None:
    for one in (report["results"][0]["worst"], *report["results"][0]["attacks"].values()):
        one.update(report["results"][0]["clean"])


@pytest.mark.parametrize("old", [True, False], ids=["an older report", "with a digest that fits"])
@pytest.mark.filterwarnings("ignore::stages.errors.UnverifiedWarning")
def test_figures_that_the_rows_do_not_give_are_found(old: bool, path: Path) -> None:
    edit(path, higher, version=2 if old else 3, digest=not old)
    with pytest.raises(InputError, match=r"edited: results\[0\] has (worst|fgsm|pgd-2) accuracy [\d.]+ and its rows [\d.]+"):
        read_report(path)
    default_rows_path(path).unlink()
    assert read_report(path).results[0].worst == read_report(path).results[0].clean


def test_an_older_report_opens_and_is_said_to_be_unverified(path: Path) -> None:
    edit(path, lambda report: None, version=2, digest=False)
    with pytest.warns(UnverifiedWarning, match=r"report\.json' was written by an older laat without a digest"):
        assert read_report(path).digest is None


def test_a_report_may_be_indented_anew(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    record = read_report(path)
    for again in (json.dumps(json.loads(text)), json.dumps(json.loads(text), indent=1, ensure_ascii=False), text.rstrip()):
        path.write_text(again.replace("\n", "\r\n"), encoding="utf-8")
        assert read_report(path) == record


def test_rows_of_seen_and_novel_classes_together_agree_with_their_report(tmp_path: Path) -> None:
    save(tmp_path / "report.json", {"raw": 1.0, "other": 2.0}, Protocol("gzsl"), seen=2)
    assert read_report(tmp_path / "report.json").protocol.name == "gzsl"


def test_a_device_named_as_the_rows_is_not_read(path: Path) -> None:
    edit(path, lambda report: report["rows"].update(file="/dev/zero"))
    assert read_report(path).rows is not None
    with pytest.raises(InputError, match="is not a file"):
        compare_reports(Source(path), Source(path))
