"""Print the results of run.sh as a Markdown table: `python table.py runs/cifar_fs`.

One row per kind of anchors: the mean over the seeds ± the widest 95 % interval over episodes of any run. With several seeds,
the lowest and the highest run are shown too, because seeds and episodes are two sources of variation.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

MEASURES = ("clean", "pgd-20", "margin-pgd-20", "worst")
KINDS = ("expanded", "raw", "random")


def main(folder: Path) -> None:
    """Print the table of all reports in `folder`."""
    print("| anchors | seeds | " + " | ".join(MEASURES) + " |")
    print("| --- | --- |" + " --- |" * len(MEASURES))
    for kind in KINDS:
        results = [result_of(path) for path in sorted(folder.glob(f"{kind}-*/report.json"))]
        if results:
            cells = [cell([result[measure] for result in results]) for measure in MEASURES]
            print(f"| {kind} | {len(results)} | " + " | ".join(cells) + " |")


def result_of(path: Path) -> dict[str, dict[str, float]]:
    """The accuracies of a report with one result, by measure."""
    (result,) = json.loads(path.read_text(encoding="utf-8"))["results"]
    return {"clean": result["clean"], "worst": result["worst"], **result["attacks"]}


def cell(values: list[dict[str, float]]) -> str:
    """Mean ± half the interval, in percent, and the range over the seeds if there are several."""
    shares = [100 * value["accuracy"] for value in values]
    half = max(100 * (value["high"] - value["low"]) / 2 for value in values)
    spread = f" ({min(shares):.1f}–{max(shares):.1f})" if len(shares) > 1 else ""
    return f"{sum(shares) / len(shares):.1f} ± {half:.1f}{spread}"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
