from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stages.data.episodes import draw_episodes
from stages.errors import InputError
from stages.evaluation.protocol import Protocol
from stages.evaluation.score import gzsl_of
from stages.reports.episode_file import episodes_bytes, read_episodes
from stages.reports.parquet import read_table, table_bytes
from stages.reports.row_file import RowPart, read_rows, rows_bytes
from stages.reports.rows import PointRows
from tests.stages.evaluation.models import Channels, Group, evaluate
from tests.stages.evaluation.test_score import ALL, NAMES, THREAT, noisy_group

EPISODES = Protocol("episodes", ways=2, shots=1, queries=5, episodes=12, seed=3)
RECORD = {"models": {"run": "ab" * 32}, "suite": None, "seed": 0}


def rows_of(protocol: Protocol, grey: float = 0.38, attacks: Any = ALL) -> PointRows:
    rows = evaluate(Channels(grey), noisy_group(), protocol, attacks, THREAT).rows
    assert rows is not None
    return rows


@pytest.fixture(scope="module")
def parts() -> list[RowPart]:
    return [
        RowPart("one", "novel", "all-way", NAMES, rows_of(Protocol())),
        # the same classes in another order: their numbers mean something else
        RowPart("two", "novel", "all-way", NAMES[::-1], rows_of(Protocol(), 0.35)),
        RowPart("one", "novel", "episodes", NAMES, rows_of(EPISODES)),
        RowPart("one", "seen", "episodes", ("x", "y", "z"), rows_of(EPISODES, attacks=())),
    ]


def test_rows_come_back_as_they_were(parts: list[RowPart], tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    path.write_bytes(rows_bytes(parts, RECORD))
    read, record = read_rows(path)
    assert record == {**RECORD, "kind": "laat-rows", "schema_version": 4}
    assert [part.key for part in read] == [part.key for part in parts]
    for before, after in zip(parts, read, strict=True):
        assert list(after.rows.attacks) == list(before.rows.attacks)
        for name, right in before.rows.correct().items():
            assert np.array_equal(after.rows.correct()[name], right)
        assert after.rows.episodes == before.rows.episodes
        assert np.array_equal(before.rows.episode, after.rows.episode)
        assert after.images is not None
        assert [after.images.names()[image] for image in after.rows.image] == [str(image) for image in before.rows.image]
        named = [
            np.array(part.classes)[codes]
            for part in (before, after)
            for codes in (part.rows.label, part.rows.clean.predicted, *(x.predicted for x in part.rows.attacks.values()))
        ]
        half = len(named) // 2
        assert all(np.array_equal(*pair) for pair in zip(named[:half], named[half:], strict=True))
        for name, found in before.rows.attacks.items():
            assert np.array_equal(found.margin, after.rows.attacks[name].margin)
            assert np.array_equal(found.norm, after.rows.attacks[name].norm)


def test_the_figures_of_seen_and_novel_together_can_be_made_again_from_the_rows(tmp_path: Path) -> None:
    plain = noisy_group()
    group = Group(plain.classes, plain.anchors, plain.images, plain.labels, seen=2)
    result = evaluate(Channels(0.38), group, Protocol("gzsl"), ALL, THREAT)
    assert result.rows is not None
    path = tmp_path / "rows.parquet"
    path.write_bytes(rows_bytes([RowPart("one", "seen+novel", "gzsl", NAMES, result.rows)], RECORD))
    (read,) = read_rows(path)[0]
    # the classes of a file are in the order in which they are met
    order = [list(NAMES).index(name) for name in read.classes]
    assert order == [0, 1, 2]
    again = gzsl_of(read.rows, 2, 3, 0)
    assert again == result.gzsl


def test_anyone_reads_a_row_an_image_and_attack(parts: list[RowPart], tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    path.write_bytes(rows_bytes(parts[:1], RECORD))
    table = pq.read_table(path)
    assert len(table) == 60 * len(ALL)
    first = table.slice(0, 1).to_pylist()[0]
    assert list(first) == [
        *("model", "group", "protocol", "attack", "episode", "image", "split", "row", "key"),
        *("true_class", "clean_prediction", "attacked_prediction", "clean_margin", "attacked_margin", "norm"),
        *("clean_limit", "attacked_limit"),
    ]
    assert (first["model"], first["group"], first["attack"], first["episode"]) == ("one", "novel", "fgsm", -1)
    assert first["true_class"] == "red"
    assert table.nbytes < len(table) * 80
    assert json.loads(table.schema.metadata[b"laat"])["models"] == RECORD["models"]


def test_files_of_the_oldest_version_open(parts: list[RowPart], tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    path.write_bytes(rows_bytes(parts[:3:2], RECORD))
    held = pq.read_table(path).drop_columns(["split", "row", "key"])
    rewritten(path, {**RECORD, "kind": "laat-rows", "schema_version": 2}, held)
    for before, after in zip(parts[:3:2], read_rows(path)[0], strict=True):
        assert after.images is None
        assert np.array_equal(before.rows.image, after.rows.image)


def test_the_same_rows_have_the_same_bytes(parts: list[RowPart]) -> None:
    assert rows_bytes(parts, RECORD) == rows_bytes(list(parts), dict(RECORD))


def rewritten(path: Path, record: dict[str, Any] | None, table: pa.Table | None = None) -> None:
    held = pq.read_table(path) if table is None else table
    metadata = {} if record is None else {b"laat": json.dumps(record).encode()}
    pq.write_table(held.replace_schema_metadata(metadata), path)


def test_files_that_are_not_rows_are_refused(parts: list[RowPart], tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    good = rows_bytes(parts, RECORD)

    def refused(says: str, data: bytes | None = None, sha256: str | None = None) -> None:
        if data is not None:
            path.write_bytes(data)
        with pytest.raises(InputError, match=says):
            read_rows(path, sha256)

    refused("does not exist")
    for data in (b"", good[: len(good) // 2], good[:-1], b"x" * 100):
        refused("is cut short, damaged or no parquet file", data)
    hurt = bytearray(good)
    hurt[200] ^= 255
    refused("is cut short, damaged or no parquet file", bytes(hurt))
    refused("its SHA-256 differs", good, "00" * 32)
    held = pq.read_table(path)
    for record, says in (
        (None, "it has no laat record"),
        ({"kind": "laat-rows"}, "it has no laat record"),
        ({"kind": "laat-episodes", "schema_version": 4}, "is a laat-episodes file, expected laat-rows"),
        ({"kind": "laat-rows", "schema_version": 1}, r"has schema version 1, this laat \(.*\) reads 2 to 4; evaluate again"),
        ({"kind": "laat-rows", "schema_version": 5}, r"has schema version 5, this laat \(.*\) reads 2 to 4; upgrade laat"),
    ):
        rewritten(path, record, held)
        refused(says)
    sound = {"kind": "laat-rows", "schema_version": 4}
    rewritten(path, sound, held.drop_columns(["norm"]))
    refused("has other columns")
    rewritten(path, sound, pa.concat_tables([held, held.slice(0, 1)]))
    refused("in two places")
    rewritten(path, sound, pa.concat_tables([held.slice(0, 60), held.slice(61)]))
    refused("has other points than the first one")


@pytest.mark.parametrize(
    ("column", "value", "says"),
    [
        ("norm", np.nan, "has the norm nan in row 5"),
        ("norm", -1.0, "has the norm -1.0 in row 5"),
        ("norm", np.inf, "has the norm inf in row 5"),
        ("clean_margin", np.nan, "has the clean_margin nan in row 5"),
        ("image", -1, "has the image -1 in row 5"),
        ("episode", -2, "has the episode -2 in row 5"),
        ("episode", 7, "the episodes do not count from 0"),
        ("row", 2**31 - 1, "the rows of a split do not follow each other"),
    ],
)
def test_forged_rows_are_refused(parts: list[RowPart], tmp_path: Path, column: str, value: float, says: str) -> None:
    path = tmp_path / "rows.parquet"
    path.write_bytes(rows_bytes([RowPart("one", "seen", "all-way", NAMES, rows_of(Protocol(), attacks=()))], RECORD))
    held = pq.read_table(path)
    values = held[column].to_pylist()
    values[5] = value
    at, field = held.column_names.index(column), held.schema.field(column)
    rewritten(path, {"kind": "laat-rows", "schema_version": 4}, held.set_column(at, field, pa.array(values, field.type)))
    with pytest.raises(InputError, match=rf"'.*rows\.parquet' (is inconsistent: )?{says}"):
        read_rows(path)


def test_a_file_that_would_fill_the_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("_BYTES_ALLOWED", 10_000), ("_ROWS_ALLOWED", 1000)):
        monkeypatch.setattr(f"stages.reports.parquet.{name}", value)
    wide, long = pa.table({"x": [[0] * 300_000]}), pa.table({"x": [0] * 100_000})
    for table, says in (
        (wide, "2,4.* bytes of values, in a file"),
        (long, "100,000 rows and .* bytes, in a file"),
    ):
        (tmp_path / "f").write_bytes(table_bytes(table, "laat-rows", {}))
        with pytest.raises(InputError, match=f"is cut short, damaged or no parquet file: {says}"):
            read_table(tmp_path / "f", table.schema, "laat-rows")


def test_a_record_of_rows_has_types(parts: list[RowPart], tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    path.write_bytes(rows_bytes(parts, {**RECORD, "models": [1]}))
    with pytest.raises(InputError, match="has a damaged laat record: models is"):
        read_rows(path)


def test_episodes_come_back_as_they_were_drawn(parts: list[RowPart], tmp_path: Path) -> None:
    path = tmp_path / "episodes.parquet"
    again = RowPart("two", *parts[2].key[1:], NAMES, parts[2].rows)
    data = episodes_bytes([*parts, again], RECORD)
    assert data is not None
    path.write_bytes(data)
    (novel, seen), record = read_episodes(path)
    assert record["kind"] == "laat-episodes"
    drawn = draw_episodes(noisy_group().labels, NAMES, episodes=12, ways=2, shots=1, queries=5, seed=3)
    assert (novel.group, novel.protocol, seen.group) == ("novel", "episodes", "seen")
    assert novel.classes == [[NAMES[at] for at in head] for head in drawn.classes.tolist()]
    assert np.array_equal(novel.support, drawn.support.numpy())
    assert np.array_equal(novel.query, drawn.query.numpy())
    assert seen.classes[0][0] in "xyz"


def test_all_way_has_no_episodes_to_save(parts: list[RowPart]) -> None:
    assert episodes_bytes(parts[:2], RECORD) is None
