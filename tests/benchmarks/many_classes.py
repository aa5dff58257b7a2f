"""How the commands on anchors grow with the number of classes: time, memory, and the cosines against the whole matrix.

python tests/benchmarks/many_classes.py                       # up to 100,000 classes; several minutes
python tests/benchmarks/many_classes.py --classes 100 1000 --repeats 1
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np

from stages.anchors.sources import random_anchors
from stages.cosines import NEAR_DUPLICATE, cosine_figures, unit_rows
from tests.benchmarks.timing import Pair, alternate, environment, show, timed, write_csv

COUNTS = (100, 1000, 1203, 10_000, 100_000)
WIDTH = 512
LARGEST_MATRIX = 10_000  # 800 MB in float64, which the plain program needs twice
COMMANDS = ("anchors", "expand", "inspect")
# Linux: `ru_maxrss` would begin with the memory of the process that starts this one
_MEASURED = """
import atexit, time
def tell():
    peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    print(time.process_time(), peak.split()[1])
atexit.register(tell)
from laatcli.app import main
main()
"""


def main() -> None:
    """Print the table and write it where --csv says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", type=int, nargs="+", default=COUNTS)
    parser.add_argument("--repeats", type=int, default=3, help="pairs of the two programs for the cosines")
    parser.add_argument("--csv", type=Path)
    given = parser.parse_args()
    header = ["classes", *(f"{name} {unit}" for name in COMMANDS for unit in ("s", "CPU s", "MB"))]
    rows = [[*header, "cosines ms", "plain ms", "plain/ours", "lowest", "highest"]]
    base = _baseline()
    for count in given.classes:
        row = [f"{count:,}", *_commands(count, base)]
        rows.append([*row, *(_cosines(count, given.repeats).row()[1:6] if count <= LARGEST_MATRIX else [""] * 5)])
    show(rows)
    about = environment("cpu")
    print(", ".join(f"{name} {value}" for name, value in about.items()))
    if given.csv is not None:
        write_csv(given.csv, rows, about)


def _commands(count: int, base: float) -> list[str]:
    """Wall and CPU seconds and growth of the peak memory (MB) of each command, from start to end."""
    cells = []
    with tempfile.TemporaryDirectory() as folder:
        names = Path(folder) / "classes.txt"
        names.write_text("".join(f"class {at}\n" for at in range(count)), encoding="utf-8")
        source = ("--classes", str(names), "--seen", str(count * 4 // 5), "--source", "random", "--dim", str(WIDTH))
        for line in (("anchors", *source), ("expand", "anchors.st"), ("inspect", "expanded.st")):
            wall, cpu, peak = _run(line, folder)
            cells += [f"{wall:.2f}", f"{cpu:.2f}", f"{peak - base:.0f}"]
    return cells


def _baseline() -> float:
    """The peak memory (MB) of a command that imports what these do, on two classes."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "classes.txt").write_text("one\ntwo\n", encoding="utf-8")
        return _run(("anchors", "--classes", "classes.txt", "--source", "random", "--dim", "2"), folder)[2]


def _run(line: tuple[str, ...], folder: str) -> tuple[float, float, float]:
    """Wall and CPU seconds and peak resident memory (MB) of `laat LINE` in a folder."""
    start = time.perf_counter()
    command = [sys.executable, "-c", _MEASURED, *line, "--quiet"]
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, text=True, check=True)
    cpu, peak = done.stdout.split()
    return time.perf_counter() - start, float(cpu), float(peak) * 1024 / 1e6


def _cosines(count: int, repeats: int) -> Pair:
    """The figures in blocks against the plain program, after checking that they agree."""
    anchors = random_anchors(count, WIDTH, 0)

    def plain() -> tuple[float, float, float, int]:
        unit = unit_rows(anchors)
        matrix = unit @ unit.T
        pairs = matrix[np.triu_indices(count, 1)]
        return float(pairs.mean()), float(pairs.min()), float(pairs.max()), int((pairs > NEAR_DUPLICATE).sum())

    ours = cosine_figures(anchors)
    np.testing.assert_allclose((ours.mean, ours.low, ours.high, ours.near_duplicate_count), plain(), atol=1e-6)
    return alternate("cosines", lambda: timed(lambda: cosine_figures(anchors)), lambda: timed(plain), repeats)


if __name__ == "__main__":
    main()
