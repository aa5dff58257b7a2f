from __future__ import annotations

import torch

from stages.attacks.start import BLOCK, StartNoise

SHAPE = (3, 2, 2)


def test_a_rows_noise_does_not_depend_on_its_company() -> None:
    whole = StartNoise(0, "attack/pgd-20", SHAPE).rows(torch.arange(3 * BLOCK))
    some = torch.tensor([1, 5, BLOCK - 1, BLOCK, 2 * BLOCK + 7])
    assert torch.equal(StartNoise(0, "attack/pgd-20", SHAPE).rows(some), whole[some])
    back = StartNoise(0, "attack/pgd-20", SHAPE).rows(some.flip(0))
    assert torch.equal(back, whole[some].flip(0))


def test_rows_seeds_and_purposes_have_noise_of_their_own() -> None:
    rows = torch.arange(2 * BLOCK)
    noise = StartNoise(0, "attack/pgd-20", SHAPE).rows(rows)
    assert len(noise.flatten(1).unique(dim=0)) == len(rows)
    assert not torch.equal(noise, StartNoise(1, "attack/pgd-20", SHAPE).rows(rows))
    assert not torch.equal(noise, StartNoise(0, "attack/pgd-7", SHAPE).rows(rows))
    assert 0 <= noise.min() < 0.01
    assert 0.99 < noise.max() < 1


def test_the_global_stream_is_left_alone() -> None:
    before = torch.get_rng_state()
    StartNoise(0, "attack/pgd-20", SHAPE).rows(torch.arange(5))
    assert torch.equal(torch.get_rng_state(), before)
