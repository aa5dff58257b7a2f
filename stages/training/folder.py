"""The run folder: its files, its lock, and whether a run starts, is resumed or is done."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

from stages.errors import InputError, LaatError, MissingError, UsageError
from stages.files import artifacts
from stages.files.epoch_metrics import BEST, METRICS, read_epochs
from stages.files.training_params import complete_settings
from stages.identity import Identity, require_same
from stages.text import counted, visible
from stages.training.reports import EpochReport, RunResult
from stages.training.state import KIND, RunState
from stages.version import __version__

LAST, STATE, LOCK = "last.st", "state.st", ".lock"
Next = Literal["start", "resume", "done"]
_FEW = 3  # options that are worth typing again
_OTHERWISE = "choose another folder with --out, or replace it with --force"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Within: no other run writes into `folder`; the system releases the lock when the process ends.

    Raises UsageError when another run has the lock, MissingError when the folder cannot be written.
    """
    from filelock import FileLock, Timeout

    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / LOCK)
        lock.acquire(timeout=0)
    except Timeout:
        raise UsageError(
            f"another run is writing into '{folder}'", "wait for it, or choose another folder with --out"
        ) from None
    except OSError as error:
        raise MissingError(f"cannot write into '{folder}': {error.strerror or error}", "choose another --out") from None
    try:
        yield
    finally:
        with suppress(OSError):  # a folder that is not empty stays
            (folder / LOCK).unlink()
            folder.rmdir()
        lock.release()


def what_next(folder: Path, identity: dict[str, Any], *, resume: bool, force: bool) -> Next:
    """Whether a run of `identity` (see `stages.training.task`) starts in `folder`, is resumed, or is done already.

    `force` alone replaces whatever is in the folder; with `resume` too, only another run.

    Raises:
        UsageError: the folder has another run, or an unfinished one and neither `resume` nor `force` is set.
        InputError: its state is damaged.
    """
    if force and not resume:
        return "start"
    try:
        return _continued(folder, identity, resume=resume)
    except LaatError:
        if force:
            return "start"
        raise


def _continued(folder: Path, identity: dict[str, Any], *, resume: bool) -> Next:
    what = f"the run in '{folder}' cannot be resumed with other parameters"
    if (folder / STATE).exists():
        before = _state(folder)
        if not resume:
            raise UsageError(
                f"'{folder}' has an unfinished run ({counted(len(before.reports), 'epoch')} done)",
                "resume it with --resume auto, choose another folder with --out, or replace it with --force",
            )
        fix = _resume_with(before.identity, identity) + _OTHERWISE
        require_same(_complete(before.identity, identity), identity, what, fix)
        return "resume"
    if not (folder / BEST).exists():
        return "start"
    finished = _finished_identity(folder, identity)
    if not resume or finished is None:
        what = f"'{folder}' already has a run"
    require_same(finished, identity, what, _OTHERWISE)
    return "done"


def _resume_with(before: Identity, now: Identity) -> str:
    """The options that resume a run, where a few alone are in the way, some of which may come from this machine (`auto`)."""
    settings = complete_settings(before.get("settings", {}))
    old = {name: value for name, value in settings.items() if now["settings"].get(name) != value}
    others_too = {**before, "settings": settings} != {**now, "settings": {**now["settings"], **old}}
    derived = "episodes_per_step" in settings and "batch_size" in old  # of episodes
    if others_too or derived or len(old) > _FEW or any(value is None or isinstance(value, bool) for value in old.values()):
        return ""
    options = [f"--{name.replace('_', '-')} {value}" for name, value in old.items()]
    return f"resume it with {' '.join(options)}, "


def read_state(folder: Path) -> artifacts.Artifact:
    """The state artifact of an unfinished run. Raises InputError."""
    return artifacts.read(folder / STATE, KIND)


def tidy(folder: Path, *, old_state: bool) -> None:
    """Remove half-written files of a killed run, and the state of a run that is replaced; only within `locked`."""
    if old_state:
        (folder / STATE).unlink(missing_ok=True)
    for name in (BEST, LAST, METRICS, STATE):
        for part in folder.glob(f".{name}.*.part"):
            part.unlink(missing_ok=True)


def _state(folder: Path) -> RunState:
    state = RunState.read(read_state(folder))
    if state.best_sha256 and not (folder / BEST).exists():
        raise InputError(f"'{folder / BEST}', the best epoch of the unfinished run, is missing", "start it again with --force")
    return state


def _finished_identity(folder: Path, now: dict[str, Any]) -> dict[str, Any] | None:
    """The identity of the finished run in `folder`; None when a file is missing or another version wrote it.

    `now` is what it is compared with.
    """
    try:
        artifact, epochs = artifacts.read(folder / LAST, "model"), len(read_epochs(folder / METRICS))
    except LaatError:
        return None
    identity: dict[str, Any] = artifact.params["training"].get("identity", {})
    whole = epochs == identity.get("settings", {}).get("epochs") and artifact.tool == __version__
    return _complete(identity, now) if whole else None


def _complete(identity: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """The identity of a run, possibly of an older version, as it is recorded now, to be compared with `now`."""
    settings = complete_settings(identity.get("settings", {}))
    selection, scoring = {**identity.get("selection", {})}, now.get("selection", {}).get("attack")
    if settings.get("steps") != now["settings"]["steps"]:  # told of the steps alone
        selection["attack"] = scoring
    elif scoring is not None:  # older versions scored epochs by the inner attack
        selection.setdefault("attack", f"pgd-{settings['steps']} (of an earlier version)")
    return {**identity, "settings": settings, "selection": selection}


def finished_run(folder: Path) -> RunResult:
    """What the finished run in `folder` wrote. Raises InputError when a file of it is missing or damaged."""
    reports = [EpochReport.from_row(row.to_record()) for row in read_epochs(folder / METRICS)]
    return RunResult.of(folder, reports, artifacts.read(folder / BEST, "model").sha256)


def check_run_name(name: str | None) -> None:
    """Raise UsageError for a name that is empty, or has characters that do not show."""
    if name is not None and (not name.strip() or name != visible(name).strip()):
        raise UsageError(f"the run's name is '{name}'", "give a name of visible characters, for example --name laat-seed-0")


def other_name(folder: Path, name: str | None) -> str:
    """A warning if the finished run in `folder` has another name than the one that is given now; '' otherwise."""
    before = artifacts.read(folder / BEST, "model").params["training"].get("name")
    if name in (None, before):
        return ""
    known = "no name" if before is None else f"the name '{before}'"
    return f"the finished run in '{folder}' keeps {known}: --name is recorded in training (--force trains again)"
