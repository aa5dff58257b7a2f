"""Evaluations in chunks: the same bits for any batch size; finished chunks are found again, and only those that fit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from stages.attacks.spec import parse_attacks
from stages.evaluation import chunks as module
from stages.evaluation.chunks import Chunks, SavedChunks, digest_of
from stages.evaluation.protocol import Protocol
from stages.reports.results import GroupResult
from stages.threat import ThreatModel
from tests.benchmarks.task import Task
from tests.stages.evaluation.models import Group, evaluate

THREAT = ThreatModel(Fraction(2, 255))
PROTOCOLS = (
    Protocol("episodes", ways=3, queries=2, episodes=12),
    Protocol("episodes", ways=3, shots=2, queries=2, episodes=12, blend=2),
    Protocol("gzsl"),
)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def scored(
    backbone: str, protocol: Protocol, attacks: tuple[str, ...], batch_size: int, chunks: Chunks | None = None, seed: int = 0
) -> GroupResult:
    task = Task(backbone, images=40, size=16, classes=6, width=16)
    torch.manual_seed(0)
    images = task.image_set()
    group = Group(images.classes, task.anchors(), images.images, images.labels, seen=4)
    specs = parse_attacks(attacks)
    model = task.model()
    return evaluate(model, group, protocol, specs, THREAT, batch_size=batch_size, chunks=chunks, seed=seed, scale=10)


def check_same_bits(found: GroupResult, expected: GroupResult) -> None:
    assert found == expected
    assert found.rows is not None
    assert expected.rows is not None
    pairs = [(found.rows.clean, expected.rows.clean)]
    pairs += [(found.rows.attacks[name], expected.rows.attacks[name]) for name in expected.rows.attacks]
    for one, other in pairs:
        for name in ("predicted", "margin", "norm", "limit"):
            left, right = getattr(one, name), getattr(other, name)
            assert (left is None) == (right is None)
            assert left is None or left.tobytes() == right.tobytes(), name


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda protocol: f"{protocol.name}-{protocol.shots}")
def test_batches_of_any_size_give_the_same_bits(protocol: Protocol) -> None:
    attacks = ("pgd-5", "margin-pgd-3x2", "apgd-t-3", "square-10")
    whole = scored("conv4-8", protocol, attacks, 256)
    assert 0 < whole.attacks["pgd-5"].accuracy < whole.clean.accuracy < 1, "trivial figures"
    for size in (1, 7, 20):
        check_same_bits(scored("conv4-8", protocol, attacks, size), whole)


def test_an_episode_has_the_same_bits_alone_as_among_others() -> None:
    several = replace(PROTOCOLS[0], queries=6, episodes=3)
    alone, among = (scored("conv4-8", replace(several, episodes=count), ("pgd-5",), 64).rows for count in (1, 3))
    assert alone is not None
    assert among is not None
    assert len(among) == 3 * len(alone) == 54
    for one, other in ((alone.clean, among.clean), (alone.attacks["pgd-5"], among.attacks["pgd-5"])):
        assert one.margin.tobytes() == other.margin[: len(alone)].tobytes()


def test_batches_of_any_size_give_the_same_bits_of_resnet12() -> None:
    whole = scored("resnet12", PROTOCOLS[0], ("pgd-2",), 64)
    check_same_bits(scored("resnet12", PROTOCOLS[0], ("pgd-2",), 5), whole)


@pytest.mark.parametrize("protocol", [PROTOCOLS[0], PROTOCOLS[2]], ids=lambda protocol: protocol.name)
def test_finished_chunks_are_not_computed_again(protocol: Protocol, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CHUNK_STEPS", 1)
    attacks = ("pgd-5", "margin-pgd-3")
    whole = scored("conv4-8", protocol, attacks, 4)
    folder = tmp_path / "parts"
    first = scored("conv4-8", protocol, attacks, 4, Chunks(saved=SavedChunks(folder, every=0), about={"model": "a"}))
    check_same_bits(first, whole)
    kept = sorted(folder.iterdir())
    assert len(kept) >= 8
    # all there, then some gone, one cut short and one with another bit
    for missing in ((), kept[:3]):
        for path in missing:
            path.unlink()
        parts = SavedChunks(folder, every=0)
        check_same_bits(scored("conv4-8", protocol, attacks, 4, Chunks(saved=parts, about={"model": "a"})), whole)
        assert parts.found == len(kept) - len(missing)
    kept[0].write_bytes(kept[0].read_bytes()[:-1])
    data = bytearray(kept[1].read_bytes())
    data[40] ^= 1
    kept[1].write_bytes(data)
    parts = SavedChunks(folder, every=0)
    check_same_bits(scored("conv4-8", protocol, attacks, 4, Chunks(saved=parts, about={"model": "a"})), whole)
    assert parts.found == len(kept) - 2
    # whatever the figures follow from: nothing of another evaluation is found
    for about, seed, size in (({"model": "b"}, 0, 4), ({"model": "a"}, 1, 4), ({"model": "a"}, 0, 5)):
        parts = SavedChunks(folder, every=1e9)
        scored("conv4-8", protocol, attacks, size, Chunks(saved=parts, about=about), seed=seed)
        assert parts.found == 0
    SavedChunks(folder).remove()
    assert not folder.exists()


def test_an_evaluation_works_without_saved_chunks(tmp_path: Path) -> None:
    in_the_way = tmp_path / "parts"
    in_the_way.write_text("a file where the folder would be")
    parts = SavedChunks(in_the_way, every=0)
    column = np.arange(3, dtype=np.int32)
    parts.keep(digest_of({}, column), [column])
    assert parts.find(digest_of({}, column), [column]) is None
    assert in_the_way.read_text() == "a file where the folder would be"


def test_short_evaluations_leave_no_trace(tmp_path: Path) -> None:
    parts = SavedChunks(tmp_path / "parts", every=60)
    parts.keep("a", [np.arange(3, dtype=np.int32)])
    assert not (tmp_path / "parts").exists()
    parts.save()
    assert (tmp_path / "parts/a.part").exists()
