from __future__ import annotations

import numpy as np
import torch

from stages.randomness import derive_seed, numpy_generator, torch_generator


def test_seeds_are_pinned_and_fit_63_bits() -> None:
    # sha256("0/weights"), its first 8 bytes shifted right by one: a change here changes every result ever reported
    assert derive_seed(0, "weights") == 133441691874178746
    assert all(0 <= derive_seed(seed, "order") < 2**63 for seed in range(50))


def test_another_seed_or_purpose_is_another_stream() -> None:
    seeds = {derive_seed(seed, purpose) for seed in range(20) for purpose in ("weights", "order", "attack/pgd-20")}
    assert len(seeds) == 60
    # '1' + '1/x' is not '11' + '/x'
    assert derive_seed(1, "1/x") != derive_seed(11, "x")


def test_generators_repeat() -> None:
    assert torch.equal(torch.rand(5, generator=torch_generator(3, "a")), torch.rand(5, generator=torch_generator(3, "a")))
    assert not torch.equal(torch.rand(5, generator=torch_generator(3, "a")), torch.rand(5, generator=torch_generator(3, "b")))
    one, two = numpy_generator(3, "a").random(5), numpy_generator(3, "a").random(5)
    np.testing.assert_array_equal(one, two)


def test_the_numpy_stream_is_pinned() -> None:
    np.testing.assert_array_equal(numpy_generator(0, "pinned").integers(0, 1000, 6), [70, 39, 261, 554, 632, 831])


def test_the_global_streams_stay_as_they_are() -> None:
    before, numpy_before = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    torch.rand(3, generator=torch_generator(0, "x"))
    numpy_generator(0, "x").random(3)
    assert torch.equal(torch.random.get_rng_state(), before)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_before)  # noqa: NPY002
