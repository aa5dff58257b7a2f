from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from stages.anchors.descriptions import Descriptions, description_anchors, read_descriptions
from stages.classes import ClassGroups
from stages.errors import InputError
from tests.stages.anchors.encoders import feature, letters_encoder

SENTENCES = {
    "Sea_Lion": ["A sea lion swims.", "It has whiskers and barks, and its feature is long."],
    "bear": ["A bear."],
    "okapi": ["Striped legs."],
}
CLASSES = ("bear", "sea lion")


def written(folder: Path, found: Any) -> Path:
    path = folder / "d.json"
    path.write_text(found if isinstance(found, str) else json.dumps(found), encoding="utf-8")
    return path


def many(count: int) -> Descriptions:
    return Descriptions({name: tuple(f"{name} {at}" for at in range(count)) for name in ("bear", "wolf")}, "0" * 64, "'d.json'")


def test_an_anchor_is_the_mean_of_the_unit_features_of_its_sentences(tmp_path: Path) -> None:
    found = read_descriptions(written(tmp_path, SENTENCES)).of(CLASSES)
    made = description_anchors(found, ClassGroups.from_counts(2, 1), letters_encoder())
    lion = torch.stack([normalize(feature(text).double(), dim=0) for text in SENTENCES["Sea_Lion"]]).mean(0)
    expected = torch.stack([normalize(feature("A bear.").double(), dim=0), normalize(lion, dim=0)])
    np.testing.assert_allclose(made.vectors, expected, atol=1e-7)
    # the mean of the features, which long sentences would rule, is another
    plain = normalize(torch.stack([feature(text).double() for text in SENTENCES["Sea_Lion"]]).mean(0), dim=0)
    assert np.abs(made.vectors[1] - plain.numpy()).max() > 1e-4
    assert (made.classes, made.groups.seen) == (CLASSES, (0,))
    assert (found.given, found.unused, found.repeated, found.nameless) == ((1, 2), ("okapi",), 0, 1)


def test_what_is_recorded(tmp_path: Path) -> None:
    path = written(tmp_path, SENTENCES)
    found = read_descriptions(path).of(CLASSES, per_class=1, seed=3)
    made = description_anchors(found, ClassGroups.from_counts(2, 1), letters_encoder(), allow_truncation=True)
    recorded = {key: made.origin[key] for key in ("source", "sentences", "per_class", "seed", "model", "allow_truncation")}
    assert recorded == {
        "source": "descriptions",
        "sentences": 2,
        "per_class": 1,
        "seed": 3,
        "model": "letters",
        "allow_truncation": True,
    }
    assert made.inputs["descriptions"]["sha256"] == read_descriptions(path).sha256
    assert len(read_descriptions(path).sha256) == 64


def test_more_sentences_than_a_batch_are_summed_by_class() -> None:
    found = many(300).of(("wolf", "bear"))
    made = description_anchors(found, ClassGroups((0, 1)), letters_encoder())
    for at, name in enumerate(("wolf", "bear")):
        rows = [normalize(feature(f"{name} {number}").double(), dim=0) for number in range(300)]
        np.testing.assert_allclose(made.vectors[at], normalize(torch.stack(rows).mean(0), dim=0), atol=1e-7)


def test_a_sample_depends_on_the_name_and_the_seed_alone() -> None:
    (bear, wolf), (alone,) = many(50).of(("bear", "wolf"), 10, 1).sentences, many(50).of(("Wolf",), 10, 1).sentences
    assert alone == wolf
    assert len({*bear}) == len({*wolf}) == 10
    assert [text.split()[1] for text in bear] != [text.split()[1] for text in wolf]
    assert many(50).of(("bear",), 10, 2).sentences[0] != bear
    # a smaller sample is part of a larger one, and both are in the order of the file
    assert {*many(50).of(("bear",), 4, 1).sentences[0]} < {*bear}
    assert [int(text.split()[1]) for text in bear] == sorted(int(text.split()[1]) for text in bear)


def test_a_class_with_fewer_sentences_than_the_sample_has_all_of_them() -> None:
    found = many(3).of(("bear",), 10)
    assert (len(found.sentences[0]), found.given) == (3, (3,))


def test_a_repeated_sentence_counts_as_often_as_it_is_given() -> None:
    found = Descriptions({"bear": ("a", "b", "b")}, "0" * 64, "'d.json'").of(("bear",))
    assert found.repeated == 1
    made = description_anchors(found, ClassGroups((0,)), letters_encoder())
    a, b = (normalize(feature(text).double(), dim=0) for text in "ab")
    np.testing.assert_allclose(made.vectors[0], normalize(a + 2 * b, dim=0), atol=1e-7)


def test_a_sentence_that_would_be_cut_is_named(tmp_path: Path) -> None:
    found = read_descriptions(written(tmp_path, SENTENCES)).of(CLASSES)
    with pytest.raises(
        InputError, match=r"'A sea lion swims\.' is longer than the 12 tokens .*; shorten the sentence, or accept"
    ):
        description_anchors(found, ClassGroups.from_counts(2, 1), letters_encoder(12))
    description_anchors(found, ClassGroups.from_counts(2, 1), letters_encoder(12), allow_truncation=True)


def test_classes_that_are_not_in_the_file_are_named_with_the_nearest(tmp_path: Path) -> None:
    found = read_descriptions(written(tmp_path, SENTENCES))
    with pytest.raises(
        InputError,
        match=r"1 of the 2 classes of the class names is not in .*d\.json': 'beer' \(nearest: 'bear'.*; add sentences",
    ):
        found.of(("sea lion", "beer"))


def test_an_empty_list_matters_for_the_classes_that_are_asked_for(tmp_path: Path) -> None:
    found = read_descriptions(written(tmp_path, {"bear": [], "wolf": ["A wolf."]}))
    assert found.of(("wolf",)).unused == ("bear",)
    with pytest.raises(InputError, match="has no sentence for 'bear': its list is empty"):
        found.of(("bear", "wolf"))


@pytest.mark.parametrize(
    ("found", "says"),
    [
        ("{", "is no file of descriptions: it is not JSON; write"),
        ("", "is no file of descriptions: it is not JSON"),
        ([], "is not a JSON object of class names"),
        ({}, "is not a JSON object of class names"),
        ('{"bear": ["a"], "bear": ["b"]}', "the entry 'bear' is given twice"),
        ({"sea lion": ["a"], "Sea_Lion": ["b"]}, "has a class twice: entries 1"),
        ({"\u200b": ["a"]}, "has a class without a name"),
        ({"bear": "A bear."}, "the entry 'bear' in .* is not a list of sentences"),
        ({"bear": ["a", 3]}, "the entry 'bear' in .* is not a list of sentences"),
        ({"bear": {"a": "b"}}, "the entry 'bear' in .* is not a list of sentences"),
        ({"bear": ["a", " \n"]}, "sentence 2 of 'bear' in .* is empty"),
        ({"bear": ["a", "\u200b"]}, "sentence 2 of 'bear' in .* is empty"),
        ({"bear": ["x" * 10_001]}, "sentence 1 of 'bear' in .* is longer than 10,000 characters"),
        ('{"bear": ["\\u0000"]}', "has a NUL character in it"),
        ('{"bear": ["\\ud800"]}', "has half a surrogate pair in it"),
        ("[" * 5000, "is no file of descriptions: it is nested more than 100 levels deep"),
    ],
)
def test_what_is_refused(found: Any, says: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=says):
        read_descriptions(written(tmp_path, found))


def test_text_of_windows_is_read_and_sentences_are_one_line(tmp_path: Path) -> None:
    path = tmp_path / "d.json"
    path.write_bytes(json.dumps({"bear": ["\n\nA\u00a0 bear. "]}).encode("utf-16"))
    assert read_descriptions(path).sentences == {"bear": ("A bear.",)}
    path.write_bytes('{"ours": ["é"]}'.encode("latin1"))
    with pytest.raises(InputError, match="is not UTF-8 text"):
        read_descriptions(path)
