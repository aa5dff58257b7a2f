from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from torch.nn.functional import normalize

from stages.anchors.sources import PUBLISHED, constructed_anchors, imported_anchors, text_anchors
from stages.classes import ClassGroups
from stages.errors import InputError
from tests.stages.anchors.encoders import feature, letters_encoder

CLASSES = ("sea_lion", "bear", "wolf")
GROUPS = ClassGroups.from_counts(3, 2)


def test_an_anchor_is_the_text_feature_over_its_norm() -> None:
    made = text_anchors(CLASSES, GROUPS, letters_encoder(), [PUBLISHED])
    texts = ["This is a photo of a sea lion", "This is a photo of a bear", "This is a photo of a wolf"]
    expected = normalize(torch.stack([feature(text) for text in texts]).double(), dim=1)
    np.testing.assert_allclose(made.vectors, expected, atol=1e-7)
    assert made.vectors.dtype == np.float32
    assert (made.classes, made.groups, made.expansion) == (CLASSES, GROUPS, None)


def test_spellings_of_one_name_have_one_prompt_and_one_anchor() -> None:
    spellings = ["caf\u00e9", "cafe\u0301", "\u200bcaf\u00e9", "caf\u00e9\u00a0"]
    made = [text_anchors([name], ClassGroups((0,)), letters_encoder(), ["cr\u00e8me {}", "{}"]) for name in spellings]
    made += [text_anchors([spellings[0]], ClassGroups((0,)), letters_encoder(), ["cre\u0300me {}", "{}"])]
    for one in made:
        assert one.classes == ("caf\u00e9",)
        np.testing.assert_array_equal(one.vectors, made[0].vectors)


def test_what_is_recorded_of_the_encoder() -> None:
    origin = text_anchors(CLASSES, GROUPS, letters_encoder(), ["{}", "a {}"]).origin
    assert origin == {
        "source": "text",
        "templates": ["{}", "a {}"],
        "model": "letters",
        "pretrained": "none",
        "weights_sha256": "0" * 64,
        "config_sha256": "1" * 64,
        "activation": "GELU",
    }


def test_templates_are_normalised_then_averaged_then_normalised() -> None:
    templates = ["a {}", "one very long template about the {}, which has a long feature", "{}!"]
    made = text_anchors(CLASSES, GROUPS, letters_encoder(), templates)
    rows = []
    for name in ("sea lion", "bear", "wolf"):
        units = [normalize(feature(template.replace("{}", name)).double(), dim=0) for template in templates]
        rows.append(normalize(torch.stack(units).mean(0), dim=0))
    np.testing.assert_allclose(made.vectors, torch.stack(rows), atol=1e-7)
    # the plain average, which long features would rule, is another
    plain = normalize(torch.stack([feature(t.replace("{}", "bear")).double() for t in templates]).mean(0), dim=0)
    assert np.abs(made.vectors[1] - plain.numpy()).max() > 1e-3


def test_more_classes_than_a_batch_keep_their_order() -> None:
    names = [f"class {number}" for number in range(300)]
    made = text_anchors(names, ClassGroups.from_counts(300, None), letters_encoder(), ["{}"])
    for at in (0, 255, 256, 299):
        np.testing.assert_allclose(made.vectors[at], normalize(feature(names[at]).double(), dim=0), atol=1e-7)


@pytest.mark.parametrize("padding", [0, 1, 301])
def test_a_prompt_that_would_be_cut_is_named(padding: int) -> None:
    # 301 pads with the end token itself, as SigLIP's tokenizer does
    encoder = letters_encoder(12, padding)
    fits = text_anchors(["0123456789"], ClassGroups((0,)), encoder, ["{}"])
    assert fits.vectors.shape == (1, 6)
    with pytest.raises(InputError, match=r"the prompt 'a 012345678' is longer than the 12 tokens that letters reads"):
        text_anchors(["bear", "012345678"], ClassGroups((0, 1)), encoder, ["{}", "a {}"])


def test_a_very_long_prompt_of_one_letter_is_named_too() -> None:
    with pytest.raises(InputError, match="longer than the 12 tokens"):
        text_anchors(["x" * 1000], ClassGroups((0,)), letters_encoder(12), ["{}"])


def test_a_cut_that_is_asked_for_is_recorded() -> None:
    made = text_anchors(["x" * 50], ClassGroups((0,)), letters_encoder(12), ["{}"], allow_truncation=True)
    np.testing.assert_allclose(made.vectors[0], normalize(feature("x" * 10).double(), dim=0), atol=1e-7)
    assert made.origin["allow_truncation"] is True


def test_imported_features_are_normalised(tmp_path: Path) -> None:
    features = np.array([[3.0, 4, 0], [0, 0, 2], [1, 1, 1]])
    np.save(tmp_path / "f.npy", features)
    made = imported_anchors(CLASSES, GROUPS, str(tmp_path / "f.npy"))
    np.testing.assert_allclose(made.vectors[:2], [[0.6, 0.8, 0], [0, 0, 1]], atol=1e-7)
    assert made.vectors.dtype == np.float32
    assert set(made.origin) == {"source", "features_sha256"}
    assert len(made.origin["features_sha256"]) == 64


@pytest.mark.parametrize(("value", "message"), [(0.0, "zero"), (np.nan, "not finite"), (np.inf, "not finite")])
def test_a_zero_or_non_finite_feature_names_its_class(value: float, message: str, tmp_path: Path) -> None:
    features = np.ones((3, 4))
    features[1] = value
    np.save(tmp_path / "f.npy", features)
    with pytest.raises(InputError, match=f"the feature of 'bear' in .* is {message}"):
        imported_anchors(CLASSES, GROUPS, str(tmp_path / "f.npy"))


@pytest.mark.parametrize("rows", [2, 4])
def test_as_many_features_as_classes(rows: int, tmp_path: Path) -> None:
    np.save(tmp_path / "f.npy", np.ones((rows, 4)))
    with pytest.raises(InputError, match=f"{rows} rows for 3 classes"):
        imported_anchors(CLASSES, GROUPS, str(tmp_path / "f.npy"))


def named_features(folder: Path, classes: str) -> str:
    save_file({"text": np.eye(4, dtype=np.float32)}, folder / "f.safetensors", metadata={"classes": classes})
    return str(folder / "f.safetensors")


def test_features_whose_file_names_its_rows_are_taken_by_name(tmp_path: Path) -> None:
    """In the order of the names, whatever the order of the file; it may have more classes."""
    names = json.dumps(["fox", CLASSES[2].upper(), CLASSES[0], CLASSES[1]])
    made = imported_anchors(CLASSES, GROUPS, named_features(tmp_path, names))
    np.testing.assert_array_equal(made.vectors, np.eye(4)[[2, 3, 1]])
    with pytest.raises(InputError, match=r"1 of the 2 classes .* not in the header of .*, which names its rows: 'cat'"):
        imported_anchors(("fox", "cat"), ClassGroups((0, 1)), named_features(tmp_path, names))
    with pytest.raises(InputError, match="names 3 classes for 4 rows"):
        imported_anchors(CLASSES, GROUPS, named_features(tmp_path, json.dumps(CLASSES)))


@pytest.mark.parametrize("classes", ["['bear', 'fox']", "bear,fox", '{"bear": 0}', "[0, 1, 2, 3]", "4", "null", "[" * 200_000])
def test_classes_in_a_header_that_are_no_list_of_names_are_refused(classes: str, tmp_path: Path) -> None:
    """Rows taken in order could be those of other classes."""
    with pytest.raises(InputError, match=r"'classes' in the header of .* is not a JSON list of names; write json"):
        imported_anchors(("a", "b", "c", "d"), ClassGroups((0, 1, 2, 3)), named_features(tmp_path, classes))


def test_a_header_without_metadata_names_no_rows(tmp_path: Path) -> None:
    header = b'{"__metadata__":null,"t":{"dtype":"F32","shape":[3,4],"data_offsets":[0,48]}}   '
    values = np.eye(3, 4, dtype=np.float32)
    (tmp_path / "f.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + values.tobytes())
    np.testing.assert_array_equal(imported_anchors(CLASSES, GROUPS, str(tmp_path / "f.safetensors")).vectors, values)


def test_constructed_anchors_record_what_they_are() -> None:
    simplex = constructed_anchors(CLASSES, GROUPS, "simplex", 8, seed=3)
    random = constructed_anchors(CLASSES, GROUPS, "random", 8, seed=3)
    assert simplex.origin == {"source": "simplex"}
    assert random.origin == {"source": "random", "seed": 3}
    assert simplex.vectors.shape == random.vectors.shape == (3, 8)
