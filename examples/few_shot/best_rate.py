"""Print the learning rate with the best score on the validation classes: `python best_rate.py FOLDER METHOD SEED`."""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main(folder: Path, method: str, seed: str) -> None:
    """Print the rate of the best run `METHOD-lrRATE-SEED` in `folder`."""
    runs = sorted(folder.glob(f"{method}-lr*-{seed}"))
    best = max(runs, key=score)
    print(best.name.removeprefix(f"{method}-lr").removesuffix(f"-{seed}"))


def score(run: Path) -> tuple[float, float]:
    """Robust, then clean accuracy of the best epoch."""
    rows = map(json.loads, (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    return max((row["selection_robust"], row["selection_clean"]) for row in rows)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
