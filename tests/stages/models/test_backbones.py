from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stages.errors import UsageError
from stages.models.backbones import (
    ConvNet,
    ConvNorm,
    ResNet12,
    build_backbone,
    check_backbone_name,
    check_backbone_to_train,
    initial_weights,
)


def images(count: int = 2, size: int = 32) -> Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0))


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def trained(module: nn.Module) -> nn.Module:
    """Statistics and affine maps as after some training, so that no norm is the identity."""
    generator = torch.Generator().manual_seed(1)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            for tensor, low in ((part.weight, 0.5), (part.bias, -0.5), (part.running_mean, -0.5), (part.running_var, 0.5)):
                tensor.data = low + torch.rand(tensor.shape, generator=generator)
    return module


@pytest.mark.parametrize("kernel", [1, 3])
def test_in_eval_mode_one_convolution_does_both(kernel: int) -> None:
    layer = trained(ConvNorm(3, 8, kernel)).eval()
    expected = layer.norm(layer.conv(images()))
    torch.testing.assert_close(layer(images()), expected, rtol=1e-5, atol=1e-5)
    assert (expected - layer.conv(images())).abs().max() > 0.1


def test_a_channel_that_hardly_varies_is_folded_with_the_norms_own_epsilon() -> None:
    layer = trained(ConvNorm(3, 8, 3)).eval()
    layer.norm.running_var.fill_(1e-5)  # as large as the epsilon
    torch.testing.assert_close(layer(images()), layer.norm(layer.conv(images())), rtol=1e-4, atol=1e-3)


def test_in_training_mode_the_batch_is_normalised_and_the_statistics_move() -> None:
    layer = ConvNorm(3, 8, 3)
    x = images(8)
    y = layer(x)
    torch.testing.assert_close(y.mean((0, 2, 3)), torch.zeros(8), atol=1e-5, rtol=0)
    torch.testing.assert_close(y.var((0, 2, 3), unbiased=False), torch.ones(8), atol=1e-3, rtol=0)
    # PyTorch's batch norm moves them by a tenth
    torch.testing.assert_close(layer.norm.running_mean, 0.1 * layer.conv(x).mean((0, 2, 3)))


def test_in_eval_mode_statistics_stay() -> None:
    layer = trained(ConvNorm(3, 8, 3)).eval()
    before = [value.clone() for value in layer.state_dict().values()]
    layer(images())
    assert all(torch.equal(one, two) for one, two in zip(before, layer.state_dict().values(), strict=True))


def test_the_folded_norm_has_the_gradient_of_the_plain_one() -> None:
    layer = trained(ConvNorm(3, 4, 3)).eval()
    gradients = []
    for run in (layer, lambda x: layer.norm(layer.conv(x))):
        x = images().requires_grad_(True)
        run(x).square().sum().backward()
        gradients.append(x.grad)
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("training", [True, False])
def test_conv4_is_what_the_paper_describes(training: bool) -> None:
    net = trained(build_backbone("conv4-8", 32)).train(training)
    assert isinstance(net, ConvNet)
    x = images(4)
    for block in net.blocks:  # convolution, batch norm, ReLU, max pool 2
        copied = nn.BatchNorm2d(8)
        copied.load_state_dict(block.norm.state_dict())
        x = F.max_pool2d(F.relu(copied.train(training)(F.conv2d(x, block.conv.weight, padding=1))), 2)
    torch.testing.assert_close(net(images(4)), x.mean((2, 3)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_resnet12_is_what_the_paper_describes(training: bool) -> None:
    net = trained(build_backbone("resnet12", 16)).train(training)
    assert isinstance(net, ResNet12)

    def plain(layer: ConvNorm, x: Tensor) -> Tensor:
        copied = nn.BatchNorm2d(layer.norm.num_features)
        copied.load_state_dict(layer.norm.state_dict())
        return copied.train(training)(F.conv2d(x, layer.conv.weight, padding=layer.conv.padding))

    x = images(2, 16)
    for block in net.blocks:
        first, second, third = block.convs
        y = F.leaky_relu(plain(first, x), 0.1)
        y = plain(third, F.leaky_relu(plain(second, y), 0.1))
        x = F.max_pool2d(F.leaky_relu(y + plain(block.shortcut, x), 0.1), 2)
    torch.testing.assert_close(net(images(2, 16)), x.mean((2, 3)), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "features", "count"),
    [
        # four 3x3 convolutions without bias, and a weight and a bias a channel for each norm
        ("conv4-64", 64, 9 * 3 * 64 + 3 * 9 * 64 * 64 + 4 * 2 * 64),
        ("conv4-512", 512, 9 * 3 * 512 + 3 * 9 * 512 * 512 + 4 * 2 * 512),
        # a block i -> o: 9io + 2 * 9oo + io (shortcut) + 4 norms
        (
            "resnet12",
            640,
            sum(9 * i * o + 18 * o * o + i * o + 8 * o for i, o in [(3, 64), (64, 160), (160, 320), (320, 640)]),
        ),
    ],
)
def test_shapes_and_parameter_counts(name: str, features: int, count: int) -> None:
    net = build_backbone(name, 32)
    assert net.features == features
    assert parameters(net) == count
    with torch.no_grad():
        assert net.eval()(images()).shape == (2, features)


def test_resnet12_ends_with_a_sixteenth_of_the_side() -> None:
    net = build_backbone("resnet12", 32).eval()
    with torch.no_grad():
        assert net.blocks(images(1)).shape == (1, 640, 2, 2)


def test_initial_weights() -> None:
    for block in build_backbone("conv4-64", 32).blocks:
        assert block.conv.weight.std().item() == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.05)
    for block in build_backbone("resnet12", 32).blocks[:2]:
        for layer in block.convs:
            fan_out = 9 * layer.conv.out_channels
            # the gain of a leaky ReLU of PyTorch's default slope 0.01
            assert layer.conv.weight.std().item() == pytest.approx((2 / (1 + 0.01**2) / fan_out) ** 0.5, rel=0.05)


@pytest.mark.parametrize("name", ["conv4-8", "resnet12", "timm:resnet10t"])
def test_weights_follow_from_the_seed_alone(name: str) -> None:
    before = torch.random.get_rng_state()
    one, other = build_backbone(name, 32, seed=1), build_backbone(name, 32, seed=2)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.rand(7)  # the global stream moves on, the weights do not
    again = build_backbone(name, 32, seed=1)
    states = [list(net.state_dict().values()) for net in (one, again, other)]
    assert all(torch.equal(a, b) for a, b in zip(states[0], states[1], strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(states[0], states[2], strict=True))


@pytest.mark.parametrize(("name", "size"), [("resnet10t", 32), ("vit_tiny_patch16_224", 32), ("mobilenetv3_small_050", 32)])
def test_timm_models(name: str, size: int) -> None:
    net = build_backbone(f"timm:{name}", size)
    assert net.training
    with torch.no_grad():
        assert net.eval()(images(2, size)).shape == (2, net.features)


def test_names() -> None:
    for name in ("conv4-64", "conv4-1", "conv4-12345", "resnet12", "timm:anything"):
        check_backbone_name(name)
    for name in ("conv4", "conv4-0", "conv4-064", "conv4-123456", "conv4--1", "resnet18", "timm:", "", "conv4-64 "):
        with pytest.raises(UsageError, match=r"unknown backbone .*; nearest: .*or timm:NAME, clip:NAME"):
            check_backbone_name(name)
        with pytest.raises(UsageError, match="unknown backbone"):
            build_backbone(name, 32)


@pytest.mark.parametrize("name", ["timm:test_vit.r160_in1k", "timm:resnet18.no_such_tag", "timm:hf-hub:org/name.tag"])
def test_timm_tags_are_refused_and_not_dropped(name: str) -> None:
    with pytest.raises(UsageError, match=rf"'{name}' names the pretrained weights '.*; use --backbone timm:[^.]*, or"):
        check_backbone_to_train(name)


def test_a_checkpoint_with_a_timm_tag_still_opens() -> None:
    assert build_backbone("timm:test_vit.r160_in1k", 32).features == build_backbone("timm:test_vit", 32).features


def test_the_weights_that_training_starts_from() -> None:
    assert (
        initial_weights("conv4-64") == initial_weights("timm:resnet18") == initial_weights("clip:ViT-B-32") == "random weights"
    )
    assert initial_weights("clip:ViT-B-32/openai") == initial_weights("clip:demo") == "pretrained weights"
    assert initial_weights("own_net:make") == ""


def test_an_unknown_timm_model_shows_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"timm has no model 'resnet18x'; nearest: .*'resnet18'"):
        build_backbone("timm:resnet18x", 32)


def test_images_that_are_too_small() -> None:
    for name in ("conv4-8", "resnet12"):
        with pytest.raises(UsageError, match="at least 16 px, these have 15"):
            build_backbone(name, 15)
        with torch.no_grad():
            assert torch.isfinite(build_backbone(name, 16).eval()(images(1, 16))).all()
