"""Whether answers stand, the smallest eps at which they fall, and the pictures of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from stages.attacks.spec import parse_attacks
from stages.data.request import DecodeOptions
from stages.errors import UsageError
from stages.models.classifier import Classifier
from stages.models.embedding import Wrapped
from stages.models.wrapped import mean_of_draws
from stages.prediction.pictures import SHEET_ROWS
from stages.prediction.predict import Batch, answering, decoding_for, predict_batches
from stages.prediction.robustness import Attack, attack_answers, judge_answers
from stages.prediction.saved_attacks import AttackedPictures
from stages.threat import ThreatModel
from tests.stages.prediction.pictures import by_colour, save_colour

# red is ahead of green by this many levels; an attack within eps moves both, so it needs half of that
AHEAD = (1, 3, 6, 13, 40)
CLASSIFIER = by_colour()


def batch_of(tmp_path: Path, ahead: tuple[int, ...] = AHEAD, *, broken: bool = False) -> Batch:
    paths = [str(save_colour(tmp_path / f"{at}.png", (140 + levels, 140, 60))) for at, levels in enumerate(ahead)]
    if broken:
        (tmp_path / "broken.png").write_text("no image")
        paths.insert(1, str(tmp_path / "broken.png"))
    (batch,) = predict_batches(answering(CLASSIFIER), paths, decoding_for(CLASSIFIER, DecodeOptions()))
    return batch


def attack(eps: str = "8/255", norm: str = "linf", names: tuple[str, ...] = ("pgd-5", "margin-pgd-5")) -> Attack:
    return Attack(parse_attacks(names), ThreatModel(eps, norm))


def test_the_smallest_eps_at_which_an_answer_falls(tmp_path: Path) -> None:
    batch = batch_of(tmp_path, broken=True)
    judged, attacked = judge_answers(CLASSIFIER, batch, attack())
    found = [(one.stands, one.falls_at) for one in judged.predictions]
    assert found == [(False, "1/255"), (None, ""), (False, "2/255"), (False, "4/255"), (False, "8/255"), (True, "")]
    assert attacked.fell.tolist() == [True] * 4 + [False]
    moved = (attacked.x_adv - batch.pixels / 255).abs().amax((1, 2, 3))
    assert float(moved.max()) <= 8 / 255 + 1e-6
    predicted = CLASSIFIER(attacked.x_adv).argmax(1)
    assert (predicted != batch.classes).tolist() == attacked.fell.tolist()


def test_other_radii_are_parts_of_the_largest(tmp_path: Path) -> None:
    judged, _ = judge_answers(CLASSIFIER, batch_of(tmp_path), attack("4/255"))
    assert [one.falls_at for one in judged.predictions] == ["1/255", "2/255", "4/255", "", ""]
    judged, _ = judge_answers(CLASSIFIER, batch_of(tmp_path), attack("1", "l2"))
    assert {one.falls_at for one in judged.predictions} <= {"", "1", "0.5", "0.25", "0.125"}
    assert judged.predictions[0].falls_at == "0.125"


def test_only_the_chosen_images_are_attacked(tmp_path: Path) -> None:
    batch = batch_of(tmp_path)
    attacked = attack_answers(CLASSIFIER, batch, attack(), torch.tensor([1]))
    same = (attacked.x_adv == batch.pixels / 255).flatten(1).all(1)
    assert same.tolist() == [True, False, True, True, True]
    assert attacked.fell.tolist() == [False, True, False, False, False]


def test_random_starts_do_not_depend_on_the_batches(tmp_path: Path) -> None:
    whole = batch_of(tmp_path)
    paths = [one.path for one in whole.predictions]
    parts = predict_batches(answering(CLASSIFIER), paths, decoding_for(CLASSIFIER, DecodeOptions()), batch_size=2)
    found = [attack_answers(CLASSIFIER, part, attack()).x_adv for part in parts]
    assert torch.equal(torch.cat(found), attack_answers(CLASSIFIER, whole, attack()).x_adv)


class Noisy(Wrapped):
    """Adds noise to the pixels."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.embed(x + 0.1 * torch.randn_like(x))


def test_a_randomised_model_is_attacked_by_the_mean_of_its_draws(tmp_path: Path) -> None:
    noisy = Classifier(Noisy(CLASSIFIER.embedding), CLASSIFIER.anchor_set, logit_scale=10, image_size=32).eval()
    with pytest.raises(UsageError, match=r"the model is randomised .*; add --eot 20"):
        judge_answers(noisy, batch_of(tmp_path), attack())
    averaged = mean_of_draws(noisy, 20, 0)
    (judged, first), (_, again) = (judge_answers(averaged, batch_of(tmp_path), attack()) for _ in range(2))
    assert (judged.predictions[0].stands, judged.predictions[-1].stands) == (False, True)
    assert torch.equal(first.x_adv, again.x_adv)


def drawn(tmp_path: Path, place: Path, ahead: tuple[int, ...] = AHEAD) -> AttackedPictures:
    batch = batch_of(tmp_path / "in", ahead)
    pictures = AttackedPictures(place, attack().threat)
    for _ in range(2):
        chosen = pictures.wanted(batch)
        pictures.add(CLASSIFIER, batch, attack_answers(CLASSIFIER, batch, attack(), chosen), 7)
    pictures.end()
    return pictures


def test_a_picture_of_each_image_shows_its_pixels_as_they_are(tmp_path: Path) -> None:
    assert drawn(tmp_path, tmp_path / "out").drawn == 10
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [f"{at + 8:05}_{at}.png" for at in range(5)]
    shown = np.asarray(Image.open(tmp_path / "out/00009_1.png").convert("RGB"))
    red = (shown == (143, 140, 60)).all(2)  # the clean image: one square, ten pixels for each of its own
    rows, columns = np.flatnonzero(red.any(1)), np.flatnonzero(red.any(0))
    assert (len(rows), len(columns), red.sum()) == (320, 320, 320**2)
    # the attacked one lies beside it, each pixel a block, within eps of the clean one
    beside = shown[rows[0] : rows[-1] + 1, columns[-1] + 19 : columns[-1] + 19 + 320].astype(int)
    blocks = beside.reshape(32, 10, 32, 10, 3)
    assert (blocks == blocks[:, :1, :, :1]).all()
    assert 0 < abs(blocks[:, 0, :, 0] - (143, 140, 60)).max() <= 8
    amplified = shown[rows[0], columns[-1] + 19 + 320 + 18].astype(int)
    assert (amplified == np.clip(128 + 16 * (blocks[0, 0, 0, 0] - (143, 140, 60)), 0, 255)).all()


def test_a_sheet_has_the_first_images(tmp_path: Path) -> None:
    assert drawn(tmp_path, tmp_path / "sheet.png").drawn == SHEET_ROWS
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.height > SHEET_ROWS * 320
        assert sheet.width < 4 * 320


@pytest.mark.parametrize("name", ["okapi " * 30, "x" * 200, "日本語", "$x^2$", "שלום"])
def test_no_text_leaves_the_picture(tmp_path: Path, name: str) -> None:
    from stages.prediction.pictures import AttackedPicture, draw_attacked

    grey = np.full((32, 32, 3), 128, np.uint8)
    draw_attacked([AttackedPicture(name, grey, grey, ((name, 0.5), (name, 0.25)))], ThreatModel("8/255"), tmp_path / "a.png")
    shown = np.asarray(Image.open(tmp_path / "a.png").convert("L"))
    edge = np.concatenate([shown[:3].ravel(), shown[-3:].ravel(), shown[:, :3].ravel(), shown[:, -3:].ravel()])
    assert (edge == 255).all()
    columns = [18, 356, 694]  # nothing between the three
    for left in columns[1:]:
        assert (shown[:, left - 12 : left - 4] == 255).all()


def test_a_sheet_of_images_of_several_sizes_shows_each_whole(tmp_path: Path) -> None:
    from stages.prediction.pictures import AttackedPicture, draw_attacked

    red, green = np.full((20, 32, 3), (200, 0, 0), np.uint8), np.full((32, 16, 3), (0, 200, 0), np.uint8)
    pictures = [AttackedPicture("x", one, one, (("x", 0.5), ("x", 0.5))) for one in (red, green)]
    draw_attacked(pictures, ThreatModel("8/255"), tmp_path / "a.png")
    shown = np.asarray(Image.open(tmp_path / "a.png").convert("RGB"))
    for one in (red, green):
        assert (shown == one[0, 0]).all(2).sum() == 2 * 100 * one[..., 0].size
