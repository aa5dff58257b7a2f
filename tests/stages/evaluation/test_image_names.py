"""Rows, episodes, saved images and pictures name the images of the data; files that do not name them still open."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stages.attacks.adversarial import KIND, AdversarialSet
from stages.attacks.png_folder import write_png_folder
from stages.attacks.spec import AttackPlan, parse_attack
from stages.data.image_set import ImageSet
from stages.data.load import load_images
from stages.data.request import ImageRequest
from stages.evaluation.attack_stage import attack_group
from stages.evaluation.evaluate import Evaluation
from stages.evaluation.replay import read_replay
from stages.evaluation.sample import Sample, subset_of
from stages.evaluation.saved_images import evaluate_saved
from stages.files import artifacts
from stages.models.classifier import Classifier
from stages.reports.compare import Source, compare_reports
from stages.reports.parquet import table_bytes
from stages.reports.report import report_bytes
from tests.stages.data.pictures import class_folders
from tests.stages.evaluation.test_protocols import EPISODES, NAMES, THREAT, Protocol, checkpoint, score

__all__ = ["checkpoint"]
SAMPLE = Sample(per_class=6)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("names")
    for split, count in (("train", 5), ("test", 8)):
        class_folders(root / split, dict.fromkeys(NAMES, count), size=16)
    (root / "test/ant/002.png").write_bytes(b"not an image")
    return root


def read(folder: Path) -> ImageSet:
    request = ImageRequest(folder, split="train+test", skip_corrupt=True)
    return load_images(request, side="test", classes=[NAMES[at] for at in (3, 0, 4, 1)])


def expected(folder: Path, key: str) -> dict[str, Any]:
    """What names the image of a path: its split, row and index."""
    split = Path(key).parts[0]
    files = {name: sorted(f"{path.relative_to(folder)}" for path in folder.glob(f"{name}/*/*")) for name in ("train", "test")}
    row = files[split].index(key)
    return {"image": row + (len(files["train"]) if split == "test" else 0), "split": split, "row": row, "key": key}


def evaluated(checkpoint: Classifier, folder: Path, protocol: Protocol, *attacks: str, **more: Any) -> Evaluation:
    own = checkpoint.over([NAMES[at] for at in (3, 0, 4, 1)])
    return score(own, read(folder), protocol, *attacks, sample=SAMPLE, **more)


def as_old(path: Path, evaluated: np.ndarray) -> None:
    """Rewrite a report and its files as the oldest schema version has them: images numbered as evaluated, and no digest."""
    record = json.loads(path.read_text()) | {"schema_version": 2}
    del record["digest"]

    def renumbered(value: Any) -> Any:
        return [renumbered(one) for one in value] if isinstance(value, list) else evaluated.tolist().index(value)

    for name, new in (("rows", ["split", "row", "key"]), ("episodes", ["support_keys", "query_keys"])):
        if record[name] is None:
            continue
        place = path.parent / record[name]["file"]
        table = pq.read_table(place).drop_columns(new)
        for column in {"image", "support", "query"} & set(table.column_names):
            at = table.schema.get_field_index(column)
            table = table.set_column(at, column, pa.array(renumbered(table[column].to_pylist()), table.schema.field(at).type))
        metadata = json.loads(table.schema.metadata[b"laat"])
        metadata.pop("digest", None)
        data = table_bytes(table, metadata["kind"], metadata).replace(b'"schema_version": 4', b'"schema_version": 2')
        place.write_bytes(data)
        record[name]["sha256"] = hashlib.sha256(data).hexdigest()
    path.write_text(json.dumps(record))


def test_rows_of_a_sample_of_two_splits(checkpoint: Classifier, folder: Path, tmp_path: Path) -> None:
    evaluated(checkpoint, folder, Protocol(), "fgsm", "pgd-1").save(tmp_path / "report.json")
    rows = pq.read_table(tmp_path / "report.rows.parquet").to_pylist()
    assert len(rows) == 2 * 24
    assert {row["split"] for row in rows} == {"train", "test"}
    for row in rows:
        assert {name: row[name] for name in ("image", "split", "row", "key")} == expected(folder, row["key"])
        assert row["key"].split("/")[1] == row["true_class"]


@pytest.mark.filterwarnings("ignore::stages.errors.UnverifiedWarning")
def test_episodes_are_named_and_replayed(checkpoint: Classifier, folder: Path, tmp_path: Path) -> None:
    protocol = replace(EPISODES, shots=1)
    done = evaluated(checkpoint, folder, protocol)
    done.save(tmp_path / "report.json")
    for episode in pq.read_table(tmp_path / "report.episodes.parquet").to_pylist():
        for side in ("support", "query"):
            for images, keys, name in zip(episode[side], episode[f"{side}_keys"], episode["classes"], strict=True):
                assert images == [expected(folder, key)["image"] for key in keys]
                assert {key.split("/")[1] for key in keys} == {name}
    replay = read_replay(tmp_path / "report.episodes.parquet")
    again = evaluated(checkpoint, folder, replay.protocol, replay=replay)
    assert report_bytes(again.report) == report_bytes(done.report)
    as_old(tmp_path / "report.json", subset_of(read(folder), SAMPLE).source_rows.index)
    replay = read_replay(tmp_path / "report.episodes.parquet")
    assert replay.by_position
    assert report_bytes(evaluated(checkpoint, folder, protocol, replay=replay).report) == report_bytes(done.report)


@pytest.mark.filterwarnings("ignore::stages.errors.UnverifiedWarning")
def test_older_reports_are_compared_with_newer_ones(checkpoint: Classifier, folder: Path, tmp_path: Path) -> None:
    for name in ("old", "new"):
        evaluated(checkpoint, folder, Protocol(), "fgsm").save(tmp_path / name / "report.json")
    places = tmp_path / "old/report.json", tmp_path / "new/report.json"
    before = compare_reports(*map(Source, places)).measures
    as_old(places[0], subset_of(read(folder), SAMPLE).source_rows.index)
    assert compare_reports(*map(Source, places)).measures == before


def test_saved_images_and_pictures_are_named(checkpoint: Classifier, folder: Path, tmp_path: Path) -> None:
    images = read(folder).take([2, 30, 41])
    classifier = checkpoint.over(images.classes)
    made = attack_group(classifier, "all", images, AttackPlan(parse_attack("fgsm"), THREAT, seed=0, batch_size=8))
    artifacts.write(made.saved.to_artifact(), tmp_path / "adversarial.st")
    saved = AdversarialSet.from_artifact(artifacts.read(tmp_path / "adversarial.st", KIND), "it")
    assert saved.source_rows is not None
    evaluate_saved({"run": classifier}, saved, {"sha256": "ab"}, where="it").save(tmp_path / "report.json")
    rows = pq.read_table(tmp_path / "report.rows.parquet").to_pylist()
    assert [row["key"] for row in rows] == images.source_rows.names()
    for row in rows:
        assert {name: row[name] for name in ("image", "split", "row", "key")} == expected(folder, row["key"])
    index = saved.source_rows.index
    write_png_folder(tmp_path / "pics", images.images.numpy(), images.labels.numpy(), images.classes, force=False, rows=index)
    pictures = {f"{path.relative_to(tmp_path / 'pics')}" for path in tmp_path.glob("pics/*/*")}
    assert pictures == {f"{row['true_class']}/{row['image']:05}.png" for row in rows}
