"""Episodes from a file: the sampled ones give the same report, others are noted, and a mismatch is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.data.image_set import ImageSet
from stages.errors import InputError
from stages.evaluation.replay import OTHER_EPISODES, read_replay
from stages.models.classifier import Classifier
from stages.reports.episode_file import episode_schema, read_episodes, with_digest
from stages.reports.report import report_bytes, with_rows
from tests.stages.evaluation.test_protocols import EPISODES, checkpoint, images, score

SHOWN = replace(EPISODES, shots=2, blend=1.5, support_embeddings="raw")
__all__ = ["checkpoint", "images"]


def saved(checkpoint: Classifier, images: ImageSet, folder: Path, **more: Any) -> tuple[bytes, Path]:
    """The bytes of a report and the file of its episodes."""
    done = score(checkpoint, images, SHOWN, "fgsm", **more)
    _, files = with_rows(done.report, done.rows, folder / "report.rows.parquet", folder / "report.json")
    for path, data in files.items():
        path.write_bytes(data)
    return report_bytes(done.report), folder / "report.episodes.parquet"


def changed(path: Path, record: dict[str, Any] | None = None, **columns: Any) -> Path:
    """The file with other values in its record or its columns."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    for name, change in columns.items():
        at, values = table.schema.get_field_index(name), table[name].to_pylist()
        table = table.set_column(at, name, pa.array(change(values), episode_schema().field(name).type))
    other = path.with_name("other.parquet")
    other.write_bytes(with_digest(table, {**read_episodes(path)[1], **(record or {})}))
    return other


@pytest.mark.parametrize("shots", [(), (0, 1, 3)])
def test_sampled_episodes_give_the_same_report(
    shots: tuple[int, ...], checkpoint: Classifier, images: ImageSet, tmp_path: Path
) -> None:
    report, path = saved(checkpoint, images, tmp_path, shots=shots)
    replay = read_replay(path)
    assert replay.groups == ["all"]
    again = score(checkpoint, images, replay.protocol, "fgsm", shots=replay.sweep, replay=replay)
    assert report_bytes(again.report) == report


def test_other_episodes_are_evaluated_and_noted(checkpoint: Classifier, images: ImageSet, tmp_path: Path) -> None:
    _, path = saved(checkpoint, images, tmp_path)
    sampled = score(checkpoint, images, SHOWN, "fgsm").rows[0].result.rows
    other = changed(path, **{name: lambda values: values[::-1] for name in ("classes", "support", "query")})
    replay = read_replay(other)
    found = score(checkpoint, images, replay.protocol, "fgsm", replay=replay)
    rows = found.rows[0].result.rows
    assert sampled is not None
    assert rows is not None
    assert np.array_equal(rows.image.reshape(10, -1), sampled.image.reshape(10, -1)[::-1])
    assert np.array_equal(rows.clean.predicted.reshape(10, -1), sampled.clean.predicted.reshape(10, -1)[::-1])
    assert OTHER_EPISODES in found.report.notes
    assert found.report.protocol.replayed == replay.sha256


@pytest.mark.parametrize(
    ("record", "columns", "text"),
    [
        ({"data_sha256": "ab"}, {}, "are of other images: sha256 ab, and those at hand have"),
        ({"protocol": {"name": "all-way"}}, {}, "lacks the protocol of its episodes"),
        ({"protocol": {**SHOWN.to_record(), "ways": 3}}, {}, r"has 10 episodes of 2 x 3, 2 shots, unlike its record"),
        ({}, {"classes": lambda values: [["ant", "yak"], *values[1:]]}, "yak"),
        ({}, {"classes": lambda values: [head[::-1] for head in values]}, "in another class than the data"),
        ({}, {"query": lambda values: [[[999] * 3] * 2, *values[1:]]}, "has image 999 in another class than the data"),
        ({}, {"query": lambda values: [[[1, 2]] * 2, *values[1:]]}, "has episodes of different sizes under one name"),
    ],
)
def test_episodes_that_do_not_fit_are_refused(
    record: dict[str, Any], columns: dict[str, Any], text: str, checkpoint: Classifier, images: ImageSet, tmp_path: Path
) -> None:
    _, path = saved(checkpoint, images, tmp_path)
    other = changed(path, record, **columns)

    def replayed() -> None:
        replay = read_replay(other)
        score(checkpoint, images, replay.protocol, "fgsm", replay=replay)

    with pytest.raises(InputError, match=text):
        replayed()
