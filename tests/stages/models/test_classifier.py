"""The one object: pixels to logits, other heads over the same weights, and what counts as pixels."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from stages.anchors.anchor_set import AnchorSet
from stages.classes import ClassGroups
from stages.errors import InputError
from stages.models.classifier import Classifier, decide, predict, unit
from stages.models.embedding import EmbeddingModel, place
from stages.models.frozen import frozen, inference
from stages.pixels import check_pixels

NAMES = ("ant", "bee", "cat", "dog", "emu")


def anchors() -> AnchorSet:
    vectors = normalize(torch.randn(5, 6, generator=torch.Generator().manual_seed(0)), dim=1).numpy()
    return AnchorSet(vectors, NAMES, ClassGroups((0, 3), (1,), (2, 4)), {"source": "random"})


def classifier(scale: float = 4.0) -> Classifier:
    model = EmbeddingModel("conv4-8", 6, 16, mean=(0.5,) * 3, std=(0.25,) * 3)
    return Classifier(model, anchors(), logit_scale=scale, image_size=16).eval()


def images(count: int = 3) -> Tensor:
    return torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def test_logits_are_scaled_cosines_with_the_anchors() -> None:
    made, x = classifier(), images()
    embeddings = made.embed(x)
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(3))
    torch.testing.assert_close(made(x), 4 * embeddings @ torch.from_numpy(anchors().vectors).T)
    torch.testing.assert_close(made.scores(x), made(x), rtol=0, atol=1e-6)


def test_bytes_and_floats_give_the_same_logits() -> None:
    made = classifier()
    levels = (255 * images()).round().to(torch.uint8)
    torch.testing.assert_close(made(levels), made(levels / 255), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("x", "says"),
    [
        (
            2 - 4 * torch.eye(16).expand(2, 3, 16, 16),
            r"pixels span \[-2, 2\], expected \[0, 1\]; drop Normalize, the classifier",
        ),
        (255 * torch.eye(16).expand(2, 3, 16, 16), r"pixels span \[0, 255\], expected \[0, 1\]; divide by 255, or give uint8"),
        (torch.full((2, 3, 16, 16), float("nan")), "some pixels are not a number"),
        (torch.zeros(2, 3, 16, 16, dtype=torch.int64), "pixels are torch.int64; give uint8, or float in"),
        (torch.zeros(3, 16, 16), r"shape \(3, 16, 16\), expected \(N, 3, H, W\)"),
        (torch.zeros(2, 1, 16, 16), r"shape \(2, 1, 16, 16\), expected"),
    ],
)
def test_other_pixels_are_refused_wherever_they_come_in(x: Tensor, says: str) -> None:
    made = classifier()
    for entry in (made, made.embed, check_pixels, lambda x: predict(made, x)):
        with pytest.raises(InputError, match=says):
            entry(x)


def test_the_ends_of_the_pixel_range_are_pixels() -> None:
    check_pixels(torch.tensor([0.0, 1.0]).view(2, 1, 1, 1).expand(2, 3, 4, 4))
    check_pixels(torch.zeros(0, 3, 4, 4))


def test_a_group_is_the_same_weights_with_another_head() -> None:
    made, x = classifier(), images()
    for group, at in (("novel", [2, 4]), ("seen", [0, 3]), ("val", [1]), ("all", [0, 1, 2, 3, 4])):
        other = made.over(group)
        assert other.embedding is made.embedding
        assert other.classes == tuple(NAMES[index] for index in at)
        torch.testing.assert_close(other(x), made(x)[:, at])
        assert len(other.groups.of("all" if group == "all" else group)) == len(at)
    # from there every other group of the checkpoint can be chosen
    assert made.over("novel").over("seen").classes == ("ant", "dog")
    assert not made.over("novel").has_new_classes


def test_classes_by_name() -> None:
    made, x = classifier(), images()
    other = made.over(["EMU", "ant"])
    assert other.classes == ("emu", "ant")
    assert (other.groups.seen, other.groups.novel) == ((1,), (0,))
    torch.testing.assert_close(other(x), made(x)[:, [4, 0]])
    with pytest.raises(InputError, match="anchors come from random, which cannot encode names"):
        made.over(["ant", "okapi"])
    with pytest.raises(InputError, match="no middle classes; choose novel, seen, val, all"):
        made.over("middle")


def test_anchors_as_a_tensor() -> None:
    made, x = classifier(), images()
    own = normalize(torch.randn(3, 6), dim=1)
    torch.testing.assert_close(made.over(own)(x), 4 * made.embed(x) @ own.T)
    assert made.over(own).classes == ("0", "1", "2")
    with pytest.raises(InputError, match="anchors have width 7, the model's embeddings 6"):
        made.over(torch.eye(2, 7))(x)


def test_each_sample_can_have_its_own_head() -> None:
    made, x = classifier(), images()
    heads = normalize(torch.randn(2, 3, 6), dim=2)
    several = made.over(heads, head=torch.tensor([1, 0, 1]))
    expected = torch.stack([4 * heads[at] @ z for at, z in zip((1, 0, 1), made.embed(x), strict=True)])
    torch.testing.assert_close(several(x), expected)
    torch.testing.assert_close(several.scores(x[1:], torch.tensor([1, 2])), expected[1:])
    torch.testing.assert_close(made.over(heads[[1, 0, 1]])(x), expected)


def test_scores_have_the_same_bits_in_batches_of_any_size() -> None:
    heads = normalize(torch.randn(5, 16), dim=1)
    made, x = Classifier(EmbeddingModel("conv4-8", 16, 16, mean=(0.5,) * 3, std=(0.25,) * 3), heads).eval(), images(40)
    place(made, "cpu")
    whole = made.scores(x)
    for size in (1, 7, 19):
        assert torch.equal(torch.cat([made.scores(part) for part in x.split(size)]), whole)


def test_any_module_can_be_the_embedding_model() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 6))
    made = Classifier(net, anchors())
    torch.testing.assert_close(made(images()), unit(net(images())) @ torch.from_numpy(anchors().vectors).T)
    assert made.double()(images().double()).dtype == torch.float64
    assert made(images()).dtype == torch.float64  # as the module's weights


def test_the_head_moves_with_the_model() -> None:
    made = classifier().over(torch.eye(3, 6).repeat(2, 1, 1), head=torch.tensor([0, 1, 1])).to("meta")
    assert made.device.type == "meta"
    assert all(tensor.is_meta for tensor in (*made.parameters(), *made.buffers()))


def test_predictions_are_those_of_eval_mode_whatever_the_batch() -> None:
    made, x = classifier().train(), images(20)
    told: list[tuple[int, int, str]] = []
    found = predict(made, x, batch_size=7, progress=lambda *news: told.append(news), what="here")
    assert made.training
    assert told == [(7, 20, "here"), (14, 20, "here"), (20, 20, "here")]
    assert torch.equal(found, made.eval()(x).argmax(1))


def test_frozen_and_inference_put_everything_back() -> None:
    made = classifier().train()
    made.embedding.requires_grad_(False)
    first = next(made.parameters())
    first.requires_grad_(True)
    for within in (frozen, inference):
        with within(made):
            assert not made.training
            assert not first.requires_grad
        assert made.training
        assert first.requires_grad
        assert sum(p.requires_grad for p in made.parameters()) == 1
    assert torch.is_grad_enabled()


def test_it_can_be_exported() -> None:
    made, x = classifier(), images(4)
    with torch.no_grad():
        program = torch.export.export(made, (x,))
        torch.testing.assert_close(program.module()(x), made(x))


def test_decisions_need_finite_logits() -> None:
    from stages.errors import ComputeError

    with pytest.raises(ComputeError, match="output is not finite"):
        decide(torch.tensor([[0.0, float("nan")]]))
