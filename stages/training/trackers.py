"""Logging of each epoch's figures to TensorBoard or Weights & Biases, both optional packages."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stages.errors import InputError, MissingError, UsageError, nearest
from stages.text import is_text

TRACKERS = ("tensorboard", "wandb")


class Tracker:
    """Logs the figures of each finished epoch; this one logs nothing."""

    def epoch(self, number: int, values: Mapping[str, float | None]) -> None:
        """Log the figures of epoch `number` (from 1); None is left out."""

    def close(self) -> None:
        """Write what is still in memory and close the log."""


def check_tracker(name: str | None) -> None:
    """Raise UsageError for an unknown name, MissingError when the package is not installed."""
    if name is None:
        return
    if name not in TRACKERS:
        raise UsageError(f"unknown --log '{name}'", f"nearest: {nearest(name, TRACKERS)}")
    if importlib.util.find_spec(name) is None:
        raise MissingError(f"--log {name} needs the package {name}", f"install it with: pip install 'laat[{name}]'")


def open_tracker(name: str | None, folder: Path, settings: Mapping[str, Any], *, resumed: bool = False) -> Tracker:
    """Start the log of the run in `folder`, or continue it.

    Args:
        name: one of `TRACKERS`, or None for no log.
        folder: the run folder; the log is written to its subfolder of the tracker's name.
        settings: JSON-able record of the run, saved with the log.
        resumed: continue the log of the resumed run. Otherwise an earlier log in `folder` is replaced (TensorBoard) or stays a
            run of its own (Weights & Biases).

    Raises:
        UsageError: an unknown name, or a folder whose name is not UTF-8.
        MissingError: the package is not installed, or the service does not start.
    """
    check_tracker(name)
    if name is None:
        return Tracker()
    if not is_text(str(folder.resolve())):
        raise UsageError(f"--log {name} needs a folder whose name is UTF-8, unlike '{folder}'", "choose another with --out")
    return (_TensorBoard if name == "tensorboard" else _Wandb)(folder, settings, resumed)


class _TensorBoard(Tracker):
    """Event files in `folder`/tensorboard; a resumed run adds a file, and TensorBoard shows them as one curve."""

    def __init__(self, folder: Path, settings: Mapping[str, Any], resumed: bool) -> None:
        from torch.utils.tensorboard import SummaryWriter

        path = folder / "tensorboard"
        try:
            for old in [] if resumed else path.glob("events.out.tfevents.*"):
                old.unlink()
            self._writer = SummaryWriter(str(path))
        except OSError as error:
            raise MissingError(f"cannot write '{path}': {error.strerror or error}", "choose another place with --out") from None
        text = json.dumps(settings, indent=2, sort_keys=True, ensure_ascii=False)
        # four spaces in front: a block of code in the text tab
        self._writer.add_text("settings", "\n".join(f"    {line}" for line in text.splitlines()), 0)

    def epoch(self, number: int, values: Mapping[str, float | None]) -> None:
        for name, value in values.items():
            if value is not None:
                self._writer.add_scalar(name, value, number)
        self._writer.flush()  # the log of a killed run has its last epoch

    def close(self) -> None:
        self._writer.close()


class _Wandb(Tracker):
    """One Weights & Biases run per run folder, configured by WANDB_MODE, WANDB_PROJECT and its other variables."""

    def __init__(self, folder: Path, settings: Mapping[str, Any], resumed: bool) -> None:
        import wandb

        offline = os.environ.get("WANDB_MODE") in ("offline", "disabled")
        try:
            self._run = wandb.init(
                project=os.environ.get("WANDB_PROJECT", "laat"),
                name=os.environ.get("WANDB_NAME", folder.resolve().name),
                dir=str(folder),
                id=os.environ.get("WANDB_RUN_ID") or _run_id(folder, resumed),
                resume=None if offline else "allow",
                config=dict(settings),
                settings=wandb.Settings(silent=True, console="off", save_code=False),
            )
        except wandb.errors.Error as error:
            reason = " ".join(str(error).split())
            raise MissingError(
                f"Weights & Biases does not start: {reason}", "sign in with `wandb login`, or set WANDB_MODE=offline"
            ) from None
        # epochs as the axis: wandb's own step cannot go back to a repeated epoch
        self._run.define_metric("epoch", hidden=True)
        self._run.define_metric("*", step_metric="epoch")

    def epoch(self, number: int, values: Mapping[str, float | None]) -> None:
        self._run.log({"epoch": number, **{name: value for name, value in values.items() if value is not None}})

    def close(self) -> None:
        self._run.finish()


def _run_id(folder: Path, resumed: bool) -> str:
    """The id of this folder's run at the service, saved in the folder for a resumed run."""
    path = folder / "wandb" / "run-id.txt"
    try:
        if not (resumed and path.is_file()):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{uuid.uuid4().hex[:12]}\n", encoding="utf-8")
        found = path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError as error:
        raise MissingError(f"cannot write '{path}': {error.strerror or error}", "choose another place with --out") from None
    if not re.fullmatch(r"[\w-]{1,64}", found, re.ASCII):
        raise InputError(f"'{path}' has no id of a run", "remove it, and the resumed run is a new one at the service")
    return found
