"""Benchmark files: what they mean, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from stages.benchmark.class_names import IMAGENET, imagenet_names, read_class_names
from stages.benchmark.spec import Benchmark, bundled_names, find_benchmark, parse_benchmark
from stages.errors import LaatError, UsageError
from stages.files.toml_file import parse_toml

ONE = '[[data]]\nname = "a"\ndata = "x"\n'
# ImageNet and those of TeCoA's 15 zero-shot data sets that have a known public source
TECOA = {
    *("caltech101", "caltech256", "cifar10", "cifar100", "dtd", "eurosat", "fgvc-aircraft", "flowers102", "food101"),
    *("imagenet", "oxford-pets", "pcam", "stanford-cars", "stl10", "sun397"),
}


def parsed(text: str) -> Benchmark:
    return parse_benchmark(parse_toml(text, "'b.toml'"), "b", "'b.toml'", Path())


def test_the_bundled_benchmarks() -> None:
    found = {name: find_benchmark(name) for name in bundled_names()}
    sizes = {name: (len(one.data_sets), [str(threat) for threat in one.threats]) for name, one in found.items()}
    small = ["Linf 1/255", "Linf 2/255", "Linf 4/255"]
    assert sizes == {
        "cifar-fs": (1, ["Linf 8/255"]),
        "miniimagenet": (1, ["Linf 8/255"]),
        "shapes": (3, ["Linf 2/255", "Linf 4/255", "Linf 8/255"]),
        "tecoa-15": (15, small),
    }
    assert {one.name for one in found["tecoa-15"].data_sets} == TECOA
    assert all(one.known for plan in found.values() for one in plan.data_sets)


def test_the_class_names_of_the_bundled_benchmarks_can_be_read() -> None:
    counts = {
        one.name: len(names.names)
        for name in bundled_names()
        for one in find_benchmark(name).data_sets
        if (names := read_class_names(one)) is not None
    }
    shapes = dict.fromkeys(("shapes", "shapes-textured", "shapes-small"), 64)
    assert counts == {**shapes, "cifar-fs": 100, "miniimagenet": 20, "eurosat": 10, "imagenet": 1000, "pcam": 2}


def test_the_names_of_imagenet_are_a_thousand_different_ones() -> None:
    names = imagenet_names()
    assert len(set(names)) == 1000
    assert (names[0], names[657], names[744], names[836]) == ("tench", "missile", "projectile", "sunglass")
    one = next(one for one in find_benchmark("tecoa-15").data_sets if one.name == "imagenet")
    assert (one.classes, one.match) == (IMAGENET, "order")


def test_a_file_with_everything() -> None:
    text = (
        'title = "t"\nsuites = ["quick", "aa-few-class"]\nprotocol = "episodes"\nways = 3\nepisodes = 7\nseed = 4\n'
        'max-images = 9\nresize = 32\ntemplates = ["a {}"]\n[eps]\nlinf = ["8/255", "2/255"]\nl2 = ["0.5"]\n'
        '[[data]]\nname = "a"\ndata = "x"\n[[data]]\nname = "b"\ndata = "x"\nresize = 16\nsplit = "train"\n'
        'templates = ["b {}"]\n'
    )
    found = parsed(text)
    assert [str(one) for one in found.threats] == ["Linf 2/255", "Linf 8/255", "L2 0.5"]
    assert [one.name for one in found.suites] == ["quick", "aa-few-class"]
    assert (found.protocol.ways, found.protocol.episodes, found.sample.seed, found.sample.images) == (3, 7, 4, 9)
    first, second = found.data_sets
    assert (first.resize, first.templates, second.resize, second.templates) == (32, ("a {}",), 16, ("b {}",))
    assert second.request("y").split == "train"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no data set, and so no cells"),
        ("suits = ['quick']\n" + ONE, "unknown key 'suits'; nearest: 'suites'"),
        (ONE + "splitt = 'test'\n", "data set 1 of 'b.toml' has the unknown key 'splitt'; nearest: 'split'"),
        (ONE + ONE, "has the data set 'a' twice"),
        (ONE + ONE.replace('"a"', '"b"'), "has 'b' and 'a' alike"),
        ("suites = ['quik']\n" + ONE, "unknown suite 'quik'"),
        ("suites = ['quick', 'quick']\n" + ONE, "the suite quick twice"),
        ("suites = []\n" + ONE, "empty 'suites'"),
        ("eps = ['8']\n" + ONE, "eps '8' is over 1.*did you mean 8/255"),
        ("eps = ['0']\n" + ONE, "has the eps 0; leave it out"),
        ("eps = ['4/255', '8/510']\n" + ONE, "eps Linf 4/255 twice"),
        ("eps = []\n" + ONE, "has no eps"),
        ("eps = 4\n" + ONE, "'eps' that is no list of texts"),
        ("eps = {l7 = ['1']}\n" + ONE, "unknown norm 'l7'"),
        ("max-images = 'many'\n" + ONE, "'max-images' that is not a whole number"),
        ("max-images = 0\n" + ONE, "--max-images"),
        ("protocol = 'gzsl'\n" + ONE, "the protocol gzsl"),
        ("suites = ['aa-standard']\nprotocol = 'episodes'\nways = 3\n" + ONE, "at least 4 candidate classes"),
        (ONE + "group = 'nove'\n", "unknown group 'nove'"),
        (ONE + "templates = ['no place']\n", "needs exactly one {}"),
        (ONE + "resize = 0\n", "--resize"),
        (ONE.replace('"a"', '"a/b"'), "has the name 'a/b'"),
        ("[[data]]\ndata = 'x'\n", "data set 1 of 'b.toml' has no name"),
        ("[data]\nname = 'x'\n", "'data' that is no list of tables"),
        ("[[data\n", "not a TOML file"),
    ],
)
def test_what_is_refused(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says.replace("{}", r"\{\}")):
        parsed(text)


@pytest.mark.parametrize("difference", ["image-column = 'left'", "layout = 'classes'", "match = 'order'", "split = 'train'"])
def test_data_sets_that_differ_in_one_key_are_two(difference: str) -> None:
    assert len(parsed(ONE + ONE.replace('"a"', '"b"') + difference + "\n").data_sets) == 2


def test_a_group_of_names_without_groups_is_refused(tmp_path: Path) -> None:
    one = parsed(ONE + "group = 'novel'\n").data_sets[0]
    with pytest.raises(UsageError, match="its class names have no groups"):
        read_class_names(one)


def test_an_unknown_benchmark_names_the_nearest() -> None:
    with pytest.raises(LaatError, match=r"no benchmark 'tecoa'; name a \.toml file, or the nearest: 'tecoa-15'"):
        find_benchmark("tecoa")
