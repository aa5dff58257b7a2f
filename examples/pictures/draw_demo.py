"""Draw the first picture of the README from the files of `laat demo`: `python examples/pictures/draw_demo.py demo demo.png`.

Left: the first test image of six novel classes, clean and attacked (PGD-20, each model attacked separately), with each model's
prediction. Right: clean and worst-case accuracy on all novel images, from report.json, with 95 % intervals.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch

import stages as laat
from stages.data.shapes import SEEN, render_split, shape_classes

MODELS = {"undefended": "standard training", "laat-raw": "LAAT, raw anchors", "laat-expanded": "LAAT, expanded anchors"}
SHOWN = ("undefended", "laat-expanded")
BLUE, ORANGE, GREEN = "#0072B2", "#D55E00", "#009E73"
CLASSES = (0, 3, 6, 9, 12, 15)  # of the 16 novel ones: different colours and shapes


def main(folder: Path, path: Path) -> None:
    """Draw the picture of the demo in `folder` to `path`."""
    figure = plt.figure(figsize=(12, 4.4), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1.75, 1))
    draw_images(left, folder)
    draw_bars(right.subplots(), json.loads((folder / "report.json").read_text(encoding="utf-8")))
    figure.savefig(path, dpi=130, metadata={"Software": None}, pil_kwargs={"optimize": True})


def first_images() -> tuple[torch.Tensor, torch.Tensor]:
    """The first test image of each of `CLASSES`, (6, 3, 32, 32) float in [0, 1], and its label among the novel classes."""
    images, labels = render_split("test")
    first = [int(np.flatnonzero(labels == SEEN + at)[0]) for at in CLASSES]
    return torch.from_numpy(images[first]).float() / 255, torch.tensor(CLASSES)


def draw_images(figure: Any, folder: Path) -> None:
    """Three rows: clean images, and the images attacked on each of the models in `SHOWN`."""
    x, labels = first_images()
    names = shape_classes()[SEEN:]
    axes = figure.subplots(1 + len(SHOWN), len(CLASSES))
    figure.suptitle("images of novel classes: clean, and attacked with L-inf 8/255 (PGD-20)", fontsize=10)
    for axis, image, label in zip(axes[0], x, labels, strict=True):
        show(axis, image, names[int(label)], "black")
    axes[0, 0].set_ylabel("clean", fontsize=9)
    for row, model in zip(axes[1:], SHOWN, strict=True):
        classifier = laat.load(folder / model / "model.st").over("novel")
        attacked = laat.attack(classifier, x, labels, "pgd-20", eps="8/255")
        with torch.no_grad():
            predicted = classifier(attacked).argmax(1)
        for axis, image, found, label in zip(row, attacked, predicted, labels, strict=True):
            show(axis, image, names[int(found)], GREEN if found == label else ORANGE)
        row[0].set_ylabel(f"attacked,\n{MODELS[model].replace(', ', chr(10))}", fontsize=9)


def show(axis: Any, image: torch.Tensor, name: str, colour: Any) -> None:
    """Draw one image, with a class name below it."""
    axis.imshow(image.permute(1, 2, 0).numpy())
    axis.set_xticks([])
    axis.set_yticks([])
    axis.set_xlabel(name, fontsize=9, color=colour, fontweight="bold")


def draw_bars(axis: Any, report: dict[str, Any]) -> None:
    """Clean and worst-case accuracy of the three models on the novel classes."""
    entries = {entry["model"]: entry for entry in report["results"] if entry["group"] == "novel"}
    measures = {"clean": ("clean", BLUE), "worst": ("under attack (worst case)", ORANGE)}
    for at, (measure, (name, colour)) in enumerate(measures.items()):
        values = [entries[model][measure] for model in MODELS]
        middle = 100 * np.array([value["accuracy"] for value in values])
        reach = np.abs(100 * np.array([[value["low"], value["high"]] for value in values]).T - middle)
        places = np.arange(len(MODELS)) + (at - 0.5) * 0.4
        bars = axis.bar(places, middle, 0.4, yerr=reach, capsize=3, label=name, color=colour)
        axis.bar_label(bars, fmt="%.1f", fontsize=9, padding=2)
    chance = 100 * next(iter(entries.values()))["chance"]
    axis.axhline(chance, color="black", linestyle="--", linewidth=0.8)
    axis.text(1.0, chance, " chance", fontsize=8, va="center", transform=axis.get_yaxis_transform())
    axis.set_xticks(range(len(MODELS)), [name.replace(", ", "\n") for name in MODELS.values()], fontsize=9)
    axis.set_ylim(0, 106)
    axis.set_yticks(range(0, 101, 20))
    axis.set_ylabel("accuracy on novel classes (%)", fontsize=9)
    axis.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False, fontsize=9)
    axis.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
