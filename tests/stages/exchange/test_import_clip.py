"""Checkpoints of fine-tuned CLIP models against the networks that they are of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from torch import Tensor

from stages.classes import ClassGroups
from stages.errors import InputError, LaatError, MissingError, UsageError
from stages.exchange.clip_layout import ClipParts, recognised
from stages.exchange.import_checkpoint import import_checkpoint
from stages.files import artifacts
from stages.models.classifier import Classifier
from tests.stages.anchors.encoders import tiny_folder
from tests.stages.exchange.published import cosines, image_tower, save_open_clip, save_tecoa
from tests.stages.models.test_checkpoint import anchors

pytestmark = pytest.mark.usefixtures("no_child")
NAMES = ("okapi", "red_panda", "abacus")
TOLERANCE = 1e-6  # of cosines, float32


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP model with QuickGELU, as OpenAI's."""
    return tiny_folder(tmp_path_factory.mktemp("models") / "base", quick_gelu=True)


@pytest.fixture(scope="module")
def whole(base: Path) -> Any:
    """The same as open_clip opens it."""
    return open_clip.create_model(f"local-dir:{base}").eval()


def images() -> Tensor:
    return torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(5))


def text_features(net: Any, names: tuple[str, ...] = NAMES, template: str = "This is a photo of a {}") -> Tensor:
    prompts = [template.replace("{}", name.replace("_", " ")) for name in names]
    with torch.no_grad():
        return net.encode_text(open_clip.tokenize(prompts, context_length=12))


def check_cosines(made: Classifier, features: Tensor, text: Tensor) -> None:
    with torch.no_grad():
        found = made(images()) / made.logit_scale
    torch.testing.assert_close(found, cosines(features, text).detach(), rtol=0, atol=TOLERANCE)


def read(path: Path, layout: str, base: Path, **options: Any) -> Classifier:
    return import_checkpoint(path, layout, architecture=f"clip:local-dir:{base}", **{"names": NAMES, **options})


@pytest.mark.parametrize("layout", ["tecoa", "fare"])
def test_an_image_tower_that_replaces_the_whole_tower(layout: str, base: Path, whole: Any, tmp_path: Path) -> None:
    tower = image_tower()
    path = tmp_path / "x.pt"
    if layout == "tecoa":
        save_tecoa(tower, path)
    else:
        torch.save(tower.state_dict(), path)
    made = read(path, layout, base)
    features = tower((images() - 0.5) / 0.5)
    check_cosines(made, features, text_features(whole))
    assert made.logit_scale == pytest.approx(whole.logit_scale.exp().item())
    assert made.groups == ClassGroups((), (), (0, 1, 2))
    record = made.origin.training["imported"]
    assert (record["layout"], record["groups_known"], record["tensors"]) == (layout, False, len(tower.state_dict()))
    assert record["changes"] == ["image tower of clip:local-dir:base replaced: 20 tensors", "text tower of local-dir:base"]
    assert list(record["ignored"]) == (["best_acc1", "epoch", "optimizer"] if layout == "tecoa" else [])


@pytest.mark.parametrize("prefix", ["module.", ""])
def test_a_training_checkpoint_of_open_clip(prefix: str, base: Path, whole: Any, tmp_path: Path) -> None:
    state = {**whole.state_dict(), **{f"visual.{name}": one for name, one in image_tower(1).state_dict().items()}}
    state["logit_scale"] = torch.tensor(3.0)
    made = read(save_open_clip(state, tmp_path / "epoch_3.pt", prefix), "open_clip", base, template=["a {}"])
    features = image_tower(1)((images() - 0.5) / 0.5)
    check_cosines(made, features, text_features(whole, template="a {}"))
    assert made.logit_scale == pytest.approx(float(torch.tensor(3.0).exp()))
    assert "text tower of local-dir:base, equal in 'epoch_3.pt'" in made.origin.training["imported"]["changes"]


def test_later_names_take_the_same_text_tower(whole: Any, tmp_path: Path) -> None:
    """For a model with a name; here the bundled one."""
    net = open_clip.create_model(f"local-dir:{Path(artifacts.__file__).parents[1] / 'anchors/demo_clip'}").eval()
    torch.save(net.visual.state_dict(), tmp_path / "x.pt")
    made = import_checkpoint(tmp_path / "x.pt", "fare", names=NAMES, architecture="clip:demo", tau=0.01)
    later = made.over(["okapi", "pagoda"])
    both = import_checkpoint(tmp_path / "x.pt", "fare", names=["okapi", "pagoda"], architecture="clip:demo", tau=0.01)
    assert torch.equal(later.anchors, both.anchors)
    assert later.logit_scale == pytest.approx(100)


def test_a_text_tower_of_its_own(base: Path, whole: Any, tmp_path: Path) -> None:
    state = {name: one.clone() for name, one in whole.state_dict().items()}
    state["text_projection"] += torch.randn(8, 5, generator=torch.Generator().manual_seed(1))
    net = open_clip.create_model(f"local-dir:{base}").eval()
    net.load_state_dict(state)
    made = read(save_open_clip(state, tmp_path / "x.pt"), "open_clip", base)
    check_cosines(made, net.encode_image((images() - 0.5) / 0.5), text_features(net))
    with pytest.raises(MissingError, match=r"the checkpoint's encoder was given as 'x\.pt'"):
        made.over(["pagoda", "okapi"])


def test_given_anchors_need_no_text_tower(base: Path, whole: Any, tmp_path: Path) -> None:
    given = anchors(width=5)
    artifacts.write(given.to_artifact(), tmp_path / "a.st")
    path = save_open_clip(whole.state_dict(), tmp_path / "x.pt")
    made = read(path, "open_clip", base, names=None, anchors=tmp_path / "a.st")
    # as with names: that the anchors have groups does not say what the tower was trained on
    assert (made.groups.seen, made.origin.training["imported"]["groups_known"]) == ((), False)
    changes, ignored = (made.origin.training["imported"][key] for key in ("changes", "ignored"))
    assert changes[1] == "the anchors are from letters/none, not from the text tower of clip:local-dir:base"
    assert ignored["text tower"] == 17
    artifacts.write(anchors(width=6).to_artifact(), tmp_path / "wide.st")
    with pytest.raises(InputError, match=r"wide.st' have width 6, the image tower 5"):
        read(path, "open_clip", base, names=None, anchors=tmp_path / "wide.st")


@pytest.mark.parametrize(
    ("layout", "options", "kind", "says"),
    [
        ("tecoa", {}, InputError, r"lacks 'vision_encoder_state_dict', and has 'epoch'.*looks like --as open_clip"),
        ("fare", {}, InputError, "it has a whole model; it looks like --as open_clip"),
        ("laat", {"names": None}, UsageError, "needs the anchors"),
        ("open_clip", {"names": None}, UsageError, "the classes are not given"),
        ("open_clip", {"architecture": None}, UsageError, "the model that was fine-tuned is not given"),
        ("open_clip", {"architecture": "conv4-64"}, UsageError, "is no CLIP model"),
        ("open_clip", {"architecture": "clip:ViT-B-32"}, UsageError, "names no weights: they decide"),
        ("open_clip", {"architecture": "clip:demo"}, InputError, r"'visual.class_embedding'.*shape \(8,\).*expects \(64,\)"),
        ("open_clip", {"image_size": 32}, UsageError, "--image-size cannot be combined with --as open_clip"),
        ("open_clip", {"names": ()}, UsageError, "no class names are given"),
        ("open_clip", {"templates": "nowhere.txt", "architecture": None}, InputError, r"nowhere\.txt"),
        ("open_clip", {"names": ("a", "A")}, InputError, "--names has a class twice"),
        ("zip", {}, UsageError, "unknown --as 'zip'"),
    ],
)
def test_what_does_not_fit(
    layout: str, options: dict[str, Any], kind: type[LaatError], says: str, base: Path, whole: Any, tmp_path: Path
) -> None:
    path = save_open_clip(whole.state_dict(), tmp_path / "x.pt")
    given = {"names": NAMES, "architecture": f"clip:local-dir:{base}", **options}
    with pytest.raises(kind, match=says):
        import_checkpoint(path, layout, **given)


def test_a_logit_scale_that_is_none(base: Path, whole: Any, tmp_path: Path) -> None:
    path = save_open_clip({**whole.state_dict(), "logit_scale": torch.tensor(torch.inf)}, tmp_path / "x.pt")
    with pytest.raises(InputError, match=r"'logit_scale' in 'x\.pt' is inf, expected one number.*; give .* with --tau"):
        read(path, "open_clip", base)
    assert read(path, "open_clip", base, tau=0.5).logit_scale == 2


def test_integers_are_no_weights(base: Path, whole: Any, tmp_path: Path) -> None:
    path = save_open_clip({name: one.int() for name, one in whole.state_dict().items()}, tmp_path / "x.pt")
    with pytest.raises(
        InputError, match=r"tensor '.*' in 'x\.pt' has type int32, .* expects float32; take the weights before quantization"
    ):
        import_checkpoint(path, "open_clip", names=NAMES, architecture=f"clip:local-dir:{base}")


def test_the_published_towers_are_recognized_by_their_shapes() -> None:
    def parts(width: int, patch: int, positions: int) -> ClipParts:
        shapes = {"conv1.weight": (width, 3, patch, patch), "positional_embedding": (positions, width)}
        return ClipParts({name: torch.empty(shape, device="meta") for name, shape in shapes.items()}, {}, None, "", {})

    assert recognised(parts(768, 32, 50)) == "clip:ViT-B-32/openai"
    assert recognised(parts(1024, 14, 257)) == "clip:ViT-L-14/openai"
    assert recognised(parts(768, 32, 51)) is None
