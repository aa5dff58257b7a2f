"""Print the reports of run.sh as a Markdown table: `python table.py FOLDER`.

Each row is a method and a number of shots: means over the training seeds, their standard deviation, and the difference of the
worst case from LAAT without support images, paired by training seed, episode and query image, with its 95 % interval for new
runs and new episodes.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np

from stages.reports.row_file import RowPart, read_rows
from stages.statistics.paired import paired_runs

BASELINE = ("laat", "0-shot")
NAME = re.compile(r"(?P<method>.+)-(?P<seed>\d+)\.rows\.parquet")


def main(folder: Path) -> None:
    """Print the table of all reports in `folder`."""
    parts: dict[tuple[str, str], dict[int, RowPart]] = {}
    for path in sorted(folder.glob("*.rows.parquet")):
        named = NAME.fullmatch(path.name)
        for part in read_rows(path)[0] if named else []:
            parts.setdefault((named["method"], part.protocol), {})[int(named["seed"])] = part
    print("| method | shots | seeds | clean % | PGD-20 % | worst case % | worst case - LAAT 0-shot |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for (method, protocol), found in sorted(parts.items()):
        cells = [method, protocol.removesuffix("-shot"), str(len(found))]
        cells += [spread([of_episodes(part, name).mean() for part in found.values()]) for name in ("clean", "pgd-20", "worst")]
        print("| " + " | ".join([*cells, difference(parts.get(BASELINE, {}), found)]) + " |")


def of_episodes(part: RowPart, name: str) -> np.ndarray:
    """The accuracy of each episode, (E,): clean, under an attack, or under the worst of all."""
    correct = part.rows.correct()
    points = np.logical_and.reduce(list(correct.values())) if name == "worst" else correct[name]
    return points.reshape(part.rows.episodes, -1).mean(1)


def spread(shares: list[float]) -> str:
    """Mean and standard deviation over the seeds, in percent."""
    deviation = f" ± {100 * np.std(shares, ddof=1):.1f}" if len(shares) > 1 else ""
    return f"{100 * np.mean(shares):.1f}{deviation}"


def difference(baseline: dict[int, RowPart], found: dict[int, RowPart]) -> str:
    """The difference of the worst case in points, over the seeds that both have; empty for fewer than two."""
    seeds = sorted(baseline.keys() & found.keys())
    if len(seeds) < 2 or found is baseline:
        return ""
    for seed in seeds:
        same = np.array_equal(baseline[seed].rows.image, found[seed].rows.image)
        assert same, f"the reports of seed {seed} are of other episodes or images"
    first, second = (np.stack([of_episodes(one[seed], "worst") for seed in seeds]) for one in (baseline, found))
    pair = paired_runs(first, second)
    return f"{100 * pair.difference:+.1f} ({100 * pair.low:+.1f} to {100 * pair.high:+.1f})"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
