"""Print the results of run.sh as Markdown tables: `python table.py runs/published_differences`.

Every row is the mean over the seeds, and the lowest and highest seed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

MEASURES = ("clean", "pgd-20", "margin-pgd-20", "worst")
TRAINED = ("laat", "laat-published", "conv-biases", "cos", "cos-published", "acos", "acos-published", "l2", "l2-published")
BLENDS = ("images", "blend-0.15", "blend-2", "blend-raw")


def main(folder: Path) -> None:
    """Print a table of the trained models, and one of the blends."""
    head("training")
    for name in TRAINED:
        row(name, [results_of(path)[0] for path in sorted(folder.glob(f"{name}-[0-9]*/zero-shot.json"))])
    print()
    head("head")
    for name in BLENDS:
        reports = [results_of(path) for path in sorted(folder.glob(f"laat-[0-9]*/{name}.json"))]
        for at, shots in enumerate((1, 5)):
            row(f"{name}, {shots}-shot", [report[at] for report in reports])


def head(first: str) -> None:
    """Print the head of a table."""
    print(f"| {first} | seeds | " + " | ".join(MEASURES) + " |")
    print("| --- | --- |" + " ---: |" * len(MEASURES))


def row(name: str, results: Sequence[dict[str, float]]) -> None:
    """Print one row, if there are results."""
    if results:
        cells = [cell([result[measure] for result in results]) for measure in MEASURES]
        print(f"| {name} | {len(results)} | " + " | ".join(cells) + " |")


def results_of(path: Path) -> list[dict[str, float]]:
    """The accuracies of each result of a report, by measure, in percent."""
    results = json.loads(path.read_text(encoding="utf-8"))["results"]
    measures = [{"clean": result["clean"], "worst": result["worst"], **result["attacks"]} for result in results]
    return [{name: 100 * value["accuracy"] for name, value in one.items()} for one in measures]


def cell(values: Sequence[float]) -> str:
    """The mean, and the range over the seeds."""
    return f"{sum(values) / len(values):.1f} ({min(values):.1f}–{max(values):.1f})"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
