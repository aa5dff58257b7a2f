from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from stages.anchors.anchor_set import AnchorSet
from stages.anchors.encoder import TextEncoder, load_encoder
from stages.anchors.expanded import expand_anchors
from stages.anchors.merged import merge_anchors
from stages.anchors.parts import difference, encoders_of
from stages.anchors.sources import constructed_anchors, text_anchors
from stages.classes import ClassGroups
from stages.errors import InputError, MissingError, UsageError
from stages.expand.methods import ExpandSettings
from stages.files.artifacts import Artifact, from_bytes, to_bytes
from stages.models.new_anchors import anchors_for_names, matching_anchors

CLASSES = ("red circle", "blue star", "green ring", "yellow heart", "cyan cross")
GROUPS = ClassGroups((0, 1, 2), (3,), (4,))
OTHER = ["purple ring", "Blue_star", "green ring"]


def drawn(seed: int, width: int = 8, method: str | None = None) -> AnchorSet:
    made = constructed_anchors(CLASSES, GROUPS, "random", width, seed)
    return made if method is None else expand_anchors(made, settings=ExpandSettings(method))[0]


def reread(anchors: AnchorSet) -> AnchorSet:
    return AnchorSet.from_artifact(from_bytes(to_bytes(anchors.to_artifact()), where="m.st"), "m.st")


@pytest.fixture(scope="module")
def encoder() -> TextEncoder:
    return load_encoder("demo")


@pytest.fixture(scope="module")
def prompts(encoder: TextEncoder) -> list[AnchorSet]:
    """Raw anchors of one template, and centred ones of another."""
    raw, other = (text_anchors(CLASSES, GROUPS, encoder, [template]) for template in ("a photo of a {}", "a drawing of a {}"))
    return [raw, expand_anchors(other, settings=ExpandSettings("centre"))[0]]


@pytest.mark.parametrize("seed", range(5))
def test_the_cosine_of_merged_anchors_is_the_weighted_mean_of_the_cosines(seed: int) -> None:
    draw = np.random.default_rng(seed)
    count = int(draw.integers(2, 5))
    sets = [drawn(seed * 10 + at, int(draw.integers(1, 20))) for at in range(count)]
    weights = (10.0 ** draw.uniform(-3, 3, count)).tolist()
    merged = merge_anchors(sets, weights).vectors.astype(np.float64)
    cosines = [one.vectors.astype(np.float64) @ one.vectors.T.astype(np.float64) for one in sets]
    np.testing.assert_allclose(merged @ merged.T, np.average(cosines, axis=0, weights=weights), atol=5e-7)
    np.testing.assert_allclose(np.linalg.norm(merged, axis=1), 1, atol=1e-6)


def test_only_the_ratios_of_the_weights_matter() -> None:
    sets = [drawn(0), drawn(1, 3)]
    made = [to_bytes(merge_anchors(sets, weights).to_artifact()) for weights in ((), (1, 1), (7, 7), (1e308, 1e308))]
    assert len({*made}) == 1
    assert [merge_anchors(sets, pair).origin["parts"][0]["weight"] for pair in ((3, 1), (0.3, 0.1))] == [0.75, 0.75]


def test_classes_have_the_order_and_the_spelling_of_the_first() -> None:
    first, second = drawn(0), drawn(1, 3)
    order = [4, 2, 0, 1, 3]
    mixed = second.take(order)
    mixed = replace(mixed, classes=tuple(name.upper().replace(" ", "_") for name in mixed.classes))
    merged, expected = merge_anchors([first, mixed]), merge_anchors([first, second])
    np.testing.assert_array_equal(merged.vectors, expected.vectors)
    assert (merged.classes, merged.groups) == (CLASSES, GROUPS)


def test_what_is_recorded_survives_a_file() -> None:
    inner = merge_anchors([drawn(0, 4, "whiten"), drawn(1, 5)], (1, 3))
    merged = merge_anchors([drawn(2, 6, "paper"), expand_anchors(inner, settings=ExpandSettings("centre"))[0]])
    read = reread(merged)
    assert read.origin == merged.origin
    assert difference(read, merged, ("source", "seed")) is None
    assert [part["map"] is None for part in merged.origin["parts"][1]["origin"]["parts"]] == [False, True]
    assert to_bytes(read.to_artifact()) == to_bytes(merged.to_artifact())
    assert from_bytes(to_bytes(merged.to_artifact()), where="m.st").format == 3  # older versions refuse it
    assert read.expansion is None
    assert read.parts[1].parts[0].expansion is not None
    assert read.take([2, 0]).parts == read.parts


def test_a_file_without_a_tensor_of_a_map_or_with_other_widths_is_refused() -> None:
    packed = merge_anchors([drawn(0), drawn(1, 3, "centre")]).to_artifact()
    tensors = {name: value for name, value in packed.tensors.items() if name != "parts.2.map.centre"}
    assert len(tensors) == len(packed.tensors) - 1
    with pytest.raises(InputError, match=r"parts\.2\.map\.centre"):
        AnchorSet.from_artifact(Artifact("anchors", tensors, packed.params, {}), "m.st")
    params = {**packed.params, "origin": {"source": "merged", "parts": packed.params["origin"]["parts"][:1]}}
    with pytest.raises(InputError, match=r"do not have their width of 11 together"):
        AnchorSet.from_artifact(Artifact("anchors", packed.tensors, params, {}), "m.st")


def test_a_file_with_null_for_its_parts_has_none() -> None:
    packed = drawn(0).to_artifact()
    params = {**packed.params, "origin": {**packed.params["origin"], "parts": None}}
    found = from_bytes(to_bytes(Artifact("anchors", packed.tensors, params, {})), where="m.st")
    assert AnchorSet.from_artifact(found, "m.st").parts == ()


@pytest.mark.parametrize("part", [{"weight": 0.5, "width": 8}, {"origin": {}, "weight": 0, "width": 8}, {"origin": 3}, "x"])
def test_a_damaged_record_of_a_part_is_refused(part: object) -> None:
    packed = merge_anchors([drawn(0), drawn(1)]).to_artifact()
    broken = Artifact("anchors", packed.tensors, {**packed.params, "origin": {"source": "merged", "parts": [part, part]}}, {})
    with pytest.raises(InputError, match=r"damaged laat record: origin\.parts\[0\]"):
        from_bytes(to_bytes(broken), where="m.st")


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"source": "text"}, "merged anchors have parts, and no others do"),
        ({"parts": None}, "merged anchors have parts, and no others do"),
        ({"weight": 0.25}, "the weights of the parts do not sum to 1"),
    ],
)
def test_a_record_that_contradicts_itself_is_refused(changed: dict[str, Any], says: str) -> None:
    packed = merge_anchors([drawn(0), drawn(1)]).to_artifact()
    origin = packed.params["origin"]
    if "weight" in changed:
        origin["parts"][0] |= changed
    else:
        origin |= changed
    with pytest.raises(InputError, match=says):
        from_bytes(to_bytes(packed), where="m.st")


@pytest.mark.parametrize(
    ("sets", "weights", "error", "says"),
    [
        ([drawn(0)], (), UsageError, "a merge needs two or more"),
        ([drawn(0), drawn(1)], (1,), UsageError, "1 weights are given for 2 sets"),
        ([drawn(0), drawn(1)], (1, 0), UsageError, "a weight is not a finite number above 0"),
        ([drawn(0), drawn(1)], (1, np.inf), UsageError, "a weight is not a finite number above 0"),
        ([drawn(0), drawn(1)], (1e300, 1e-300), UsageError, "the weight of b.st is less than a millionth of the sum"),
        ([drawn(0), drawn(1).take([0, 1, 2, 3])], (), InputError, "1 of the 5 classes of a.st is not in b.st: 'cyan cross'"),
        ([drawn(0).take([0, 1, 2, 3]), drawn(1)], (), InputError, "1 of the 5 classes of b.st is not in a.st: 'cyan cross'"),
        (
            [drawn(0), replace(drawn(1), groups=ClassGroups((0, 1, 2, 4), (3,)))],
            (),
            InputError,
            "'cyan cross' is a novel class in a.st and a seen class in b.st",
        ),
    ],
)
def test_what_is_refused(sets: list[AnchorSet], weights: tuple[float, ...], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        merge_anchors(sets, weights, ["a.st", "b.st"][: len(sets)])


def test_new_names_are_encoded_by_each_part_after_its_map(prompts: list[AnchorSet], encoder: TextEncoder) -> None:
    merged, _ = expand_anchors(merge_anchors(prompts, (2, 1)), settings=ExpandSettings("whiten"))
    assert encoders_of(merged.origin) == "demo"
    made = anchors_for_names(reread(merged), OTHER)
    one, two = (text_anchors(OTHER, made.groups, encoder, [template]) for template in ("a photo of a {}", "a drawing of a {}"))
    centring = prompts[1].expansion
    assert centring is not None
    joined = np.concatenate((np.sqrt(2 / 3) * one.vectors, np.sqrt(1 / 3) * centring.apply(two.vectors)), axis=1)
    assert merged.expansion is not None
    np.testing.assert_allclose(made.vectors, merged.expansion.apply(joined), atol=1e-6)
    # a class that was there before has its anchor, and its group
    np.testing.assert_allclose(made.vectors[2], merged.vectors[2], atol=1e-5)
    assert (made.groups.seen, made.groups.novel) == ((1, 2), (0,))


@pytest.mark.parametrize(
    ("changed", "error", "says"),
    [
        (
            {"source": "features"},
            InputError,
            "merged, and part 2's anchors come from features, which cannot encode names; make anchors of",
        ),
        ({"model": "local-dir:clip"}, MissingError, "and part 2's encoder was given as 'clip', and files do not record paths"),
        ({"source": "descriptions"}, InputError, "and part 2's anchors are means of sentences .* --descriptions FILE.json"),
    ],
)
def test_a_part_that_cannot_encode_names_is_named(
    changed: dict[str, str], error: type[Exception], says: str, prompts: list[AnchorSet]
) -> None:
    other = replace(prompts[1], origin={**prompts[1].origin, **changed})
    with pytest.raises(error, match=says):
        anchors_for_names(merge_anchors([prompts[0], other]), OTHER)


def test_anchors_of_other_parts_do_not_match(prompts: list[AnchorSet]) -> None:
    trained = merge_anchors(prompts)
    assert matching_anchors(reread(trained), trained, "new.st").parts
    moved = [
        prompts[0],
        expand_anchors(replace(prompts[1], expansion=None).take([0, 1, 3, 2, 4]), settings=ExpandSettings("centre"))[0],
    ]
    for other, says in (
        (merge_anchors(prompts, (2, 1)), "weight of part 1 is 0.66"),
        (merge_anchors(prompts[::-1]), "the map of part 1 is 'centred' there and 'none' here"),
        (merge_anchors(moved), "the map of part 2 is 'centred' there and 'centred, fitted on other anchors' here"),
        (
            merge_anchors([replace(prompts[0], origin={**prompts[0].origin, "model": "x"}), prompts[1]]),
            "model of part 1 is 'x'",
        ),
    ):
        with pytest.raises(InputError, match=says):
            matching_anchors(other, trained, "new.st")
