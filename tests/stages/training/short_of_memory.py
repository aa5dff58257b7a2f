"""Trains with little memory left, in a process of its own; prints what was said, or the best epoch."""

from __future__ import annotations

import json
import re
import resource
import sys
from pathlib import Path
from typing import Any

import torch

from stages.errors import LaatError
from stages.training.options import RunOptions
from stages.training.run import train_run
from tests.stages.training.synthetic import made_up_anchors, made_up_images, quick

INPUTS = {"anchors": {"kind": "anchors", "sha256": "a" * 64, "inputs": {}}}


def in_use() -> int:
    """Bytes of private writable memory that the limit counts."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    found = re.search(r"VmData:\s+(\d+) kB", status)
    assert found
    return 1024 * int(found[1])


def main(folder: Path, room: int, changes: dict[str, Any]) -> None:
    """Train one epoch of one batch with `room` bytes more than what is in use now."""
    torch.set_num_threads(1)
    torch.nn.functional.conv2d(torch.zeros(1, 3, 8, 8), torch.zeros(8, 3, 3, 3))  # what torch sets up once
    settings = quick(**{"backbone": "conv4-64", "batch_size": 1024, "epochs": 1, "steps": 1, **changes})
    images = made_up_images(per_class=settings.batch_size // 5)
    resource.setrlimit(resource.RLIMIT_DATA, (in_use() + room, resource.RLIM_INFINITY))
    try:
        result = train_run(made_up_anchors(seen=5, val=1), images, settings, folder, inputs=INPUTS, options=RunOptions())
    except LaatError as error:
        sys.stdout.write(json.dumps({"code": error.exit_code, "what": error.what, "fix": error.fix}))
    else:
        assert result is not None
        sys.stdout.write(json.dumps({"best": result.best_epoch}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), json.loads(sys.argv[3]))
