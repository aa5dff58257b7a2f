"""Models that were trained alike but for their seed: their setting, and what tells one setting from another. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stages.anchors.anchor_set import AnchorSet
from stages.errors import UsageError
from stages.files import artifacts
from stages.files.epoch_metrics import BEST
from stages.reports.curves import Curves, run_names
from stages.reports.metrics import RunMetrics, read_metrics
from stages.reports.model_records import Training, training_of

_OF_ONE_RUN = ("seed", "name")
_ALWAYS = ("objective", "anchors")  # what a setting is called by
_DIGESTS = ("anchors_sha256", "data_sha256", "init")


def setting_of(training: Training) -> dict[str, Any]:
    """Everything that a run was trained with, but for its seed and its name."""
    return {name: value for name, value in training.to_record().items() if name not in _OF_ONE_RUN}


def setting_names(settings: Sequence[dict[str, Any]]) -> list[str]:
    """A name for each of several settings: objective, anchors, and all else in which they differ."""
    keys = list(dict.fromkeys(key for setting in settings for key in sorted(setting) if key not in _ALWAYS))
    differ = [key for key in keys if any(setting.get(key) != settings[0].get(key) for setting in settings)]
    for chosen in ([key for key in differ if key not in _DIGESTS], differ):
        names = [", ".join(_said(key, setting.get(key)) for key in (*_ALWAYS, *chosen)) for setting in settings]
        if len(set(names)) == len(names):
            break
    return names


def _said(key: str, value: Any) -> str:
    if key in ("objective", "backbone"):
        return str(value)
    if key == "anchors":
        return f"{value} anchors"
    what = key.replace("_", " ")
    return f"no {what}" if value is None else f"{what} {str(value)[:8] if key in _DIGESTS else value}"


def curves_by_setting(folders: Sequence[Path]) -> tuple[list[Curves], list[str]]:
    """The curves of each setting of these runs, and notes: what the reader of the figure should know.

    The settings are those of model.st in the run folder. A run without one is alone, and called by its folder.

    Raises InputError for metrics or a checkpoint that cannot be read, UsageError for two runs of one setting and seed.
    """
    groups: dict[str, list[RunMetrics]] = {}
    settings: dict[str, dict[str, Any]] = {}
    seeds: dict[tuple[str, int | None], Path] = {}
    notes = []
    alone = []
    for folder, name in zip(folders, run_names(folders), strict=True):
        run, training = read_metrics(folder), _training_of(folder)
        if training is None:
            notes.append(f"'{folder}' has no {BEST} that says how it was trained: it is drawn alone")
            alone.append(Curves(name, (run,)))
            continue
        setting = setting_of(training)
        key = repr(sorted(setting.items()))
        if (key, training.seed) in seeds:
            first = seeds[key, training.seed]
            raise UsageError(
                f"'{first}' and '{folder}' are the same run: one setting, seed {training.seed}", "name one of them"
            )
        seeds[key, training.seed] = folder
        groups.setdefault(key, []).append(run)
        settings[key] = setting
    names = setting_names(list(settings.values())) if settings else []
    curves = [Curves(name, tuple(groups[key])) for name, key in zip(names, settings, strict=True)]
    for one in curves:
        cut = [f"'{run.folder}'" for run in one.runs if len(run.epochs) > len(one.epochs)]
        if cut:
            notes.append(f"{one.name}: the mean ends at epoch {len(one.epochs)}, and {', '.join(cut)} at a later one")
    return [*curves, *alone], notes


def _training_of(folder: Path) -> Training | None:
    if not (folder / BEST).is_file():
        return None
    found = artifacts.read(folder / BEST, "model")
    anchors = AnchorSet.from_artifact(found, found.where)
    return training_of(found.params["training"], found.inputs, anchors)
