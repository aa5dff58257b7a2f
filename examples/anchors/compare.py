"""Compare sources and maps of the anchors of the 100 CIFAR-FS classes: `python compare.py FOLDER`.

FOLDER has the features of the class names as `laat anchors --classes cifar-fs --features` takes them: one safetensors file for
each of `FILES`, with a single tensor (100, D). Files that are not there are left out. Prints a Markdown table: mean, lowest and
highest cosine over all pairs of classes and over those of novel classes, the smallest angle, and the rank correlation
(Spearman) of the cosines of all pairs with those before the map, and with those of raw CLIP ViT-B/16.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from stages.anchors.anchor_set import AnchorSet
from stages.anchors.bundled import bundled_classes
from stages.anchors.expanded import expand_anchors
from stages.anchors.merged import merge_anchors
from stages.anchors.sources import constructed_anchors, imported_anchors
from stages.cosines import cosine_figures, rank_correlation
from stages.errors import InputError
from stages.expand.methods import METHODS, ExpandSettings

FILES = {
    "CLIP ViT-B/16": "cifar-fs_clip-vit-b-16.safetensors",
    "CLIP ViT-B/32": "cifar-fs_clip-vit-b-32.safetensors",
    "GloVe": "cifar-fs_glove.safetensors",
    "WordNet": "cifar-fs_wordnet.safetensors",
}
TOWERS = ("CLIP ViT-B/16", "CLIP ViT-B/32")
WIDTH = 512  # of anchors without language


def main(folder: Path) -> None:
    """Print the table."""
    found = sources(folder)
    text = found.get(TOWERS[0])
    print("| anchors | map | mean | min | max | novel mean | novel min | novel max | smallest angle | ρ raw | ρ B/16 |")
    print("| --- | --- |" + " ---: |" * 9)
    for name, raw in found.items():
        for method, anchors in mapped(raw):
            cells = ["undefined"] + ["–"] * 8 if anchors is None else figures(anchors, raw, text)
            print(f"| {name} | {method} | {' | '.join(cells)} |")


def sources(folder: Path) -> dict[str, AnchorSet]:
    """Raw anchors by the name of their source."""
    names, groups = bundled_classes("cifar-fs")
    paths = {name: folder / file for name, file in FILES.items()}
    found = {}
    for name, path in paths.items():
        if path.is_file():
            found[name] = imported_anchors(names, groups, str(path))
    if not found:
        sys.exit(f"'{folder}' has none of {', '.join(FILES.values())}")
    if all(tower in found for tower in TOWERS):
        found["both CLIP, merged"] = merge_anchors([found[tower] for tower in TOWERS])
    for source in ("random", "simplex"):
        found[source] = constructed_anchors(names, groups, source, WIDTH, seed=0)
    return found


def mapped(raw: AnchorSet) -> Iterator[tuple[str, AnchorSet | None]]:
    """The anchors before and after each map, fitted on the seen classes; None where a class has no place after it."""
    yield "raw", raw
    for method in METHODS:
        try:
            yield method, expand_anchors(raw, settings=ExpandSettings(method))[0]
        except InputError:
            yield method, None


def figures(anchors: AnchorSet, raw: AnchorSet, text: AnchorSet | None) -> list[str]:
    """The figures of a row, as text."""
    every, novel = (cosine_figures(vectors) for vectors in (anchors.vectors, anchors.vectors[anchors.indices("novel")]))
    cosines = [f"{value:.3f}" for one in (every, novel) for value in (one.mean, one.low, one.high)]
    return [*cosines, f"{every.smallest_angle_degrees:.1f}°", *(correlation(anchors.vectors, one) for one in (raw, text))]


def correlation(vectors: np.ndarray, other: AnchorSet | None) -> str:
    """The rank correlation of the cosines with those of other anchors; a dash where it is undefined."""
    value = None if other is None else rank_correlation(vectors, other.vectors)
    return "–" if value is None else f"{value:.2f}"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
