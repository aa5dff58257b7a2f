"""The command that repeats an evaluation, as far as its report records it. Needs no torch."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stages.data.request import BUNDLED_DATA
from stages.reports.page.words import splits_of
from stages.reports.records import Report

# a MODEL that its name in the report opens
_BY_NAME = ("clip:", "hf-hub:", "local-dir:", "robustbench:")


@dataclass(frozen=True)
class Repeat:
    """A command line, and what has to be filled in or cannot be told from the report."""

    command: str
    notes: tuple[str, ...]


def repeat_command(report: Report) -> Repeat:
    """The `laat eval` command of a report; paths that no report records are placeholders in capitals."""
    settings: Mapping[str, Any] = (report.identity or {}).get("settings", {})
    words, notes = ["laat", "eval"], []
    for model in report.models:
        if model.name == "demo" or model.name.startswith(_BY_NAME):
            words.append(model.name)
            notes.append(f"{model.name} has to be the model with SHA-256 {model.sha256[:12]}…")
        else:
            words.append(f"{model.name}/MODEL.st")
            notes.append(f"{model.name}/MODEL.st stands for the checkpoint with SHA-256 {model.sha256[:12]}…")
    if report.adversarial is not None:
        words += ["--adversarial", "ADVERSARIAL.st"]
        notes.append(f"ADVERSARIAL.st stands for the images with SHA-256 {report.adversarial.sha256[:12]}…")
        words += ["--knowledge", report.knowledge] if report.knowledge == "oblivious" else []
    else:
        words += [*_data(report, notes), *_protocol(report, settings), *_attacks(report)]
        words += ["--seed", str(report.seed)] if report.seed else []
    words += _rest(report, settings)
    if "versions" not in (report.identity or {}):
        notes.append("an older report, or a line of a leaderboard, does not record every setting: compare the figures with it")
    if any(model.objective in ("zero-shot", "closed set") for model in report.models):
        notes.append("how a model from elsewhere was opened (class names, prompts, architecture) is not recorded")
    anchors = (report.identity or {}).get("inputs", {}).get("anchors")
    if any(model.training is not None for model in report.models):
        found = f": again.json has to record the digest {anchors[:12]}… of the anchors" if isinstance(anchors, str) else ""
        notes.append(f"class names and anchors that --classes, --names and --anchors named are not recorded{found}")
    notes.append(f"the report was written by laat {report.tool}; another version may give other figures")
    return Repeat(" ".join(map(shlex.quote, [*words, "-o", "again.json"])), tuple(notes))


def _data(report: Report, notes: list[str]) -> list[str]:
    data, source = report.data.to_record(), report.data.source
    if source not in BUNDLED_DATA:
        found = f", whose images have the SHA-256 {report.data.sha256[:12]}…" if report.data.sha256 else ""
        notes.append(
            f"{source} is the name of the data{found}: give its path or hub id; the columns and the layout that it was read by "
            "are not recorded"
        )
    words = ["--data", source]
    splits = splits_of(report)
    words += ["--split", "+".join(splits)] if splits and splits != ["test"] and not data.get("divided") else []
    for key in ("resize", "white"):
        words += [f"--{key}", str(data[key])] if data.get(key) is not None else []
    words += ["--skip-corrupt"] if data.get("skipped_corrupt") else []
    if report.sample is not None:
        limits = {"max-images": report.sample.max_images, "max-per-class": report.sample.max_per_class}
        words += [word for name, limit in limits.items() if limit is not None for word in (f"--{name}", str(limit))]
    return words


def _protocol(report: Report, settings: Mapping[str, Any]) -> list[str]:
    one = report.protocol
    if one.name == "gzsl":
        return ["--protocol", "gzsl"]
    groups = settings.get("classes_from")
    if not isinstance(groups, list):  # an older report
        groups = list(dict.fromkeys(entry.group for entry in report.results))
    words = [word for group in groups for word in ("--classes-from", str(group))]
    if one.name != "episodes":
        return words
    if one.replayed is not None:
        return [*words, "--replay", "EPISODES.parquet"]
    shots = one.shots if isinstance(one.shots, list) else [one.shots]
    numbers = {"ways": one.ways, "shots": ",".join(map(str, shots)), "queries": one.queries, "episodes": one.episodes}
    words += ["--protocol", "episodes"]
    words += [word for name, number in numbers.items() for word in (f"--{name}", str(number))]
    words += ["--episode-seed", str(one.episode_seed)] if one.episode_seed else []
    words += ["--blend", f"{one.blend:g}"] if one.blend else []
    words += ["--support-embeddings", "raw"] if one.support_embeddings == "raw" else []
    words += ["--head", one.head] if one.head else []
    return words


def _attacks(report: Report) -> list[str]:
    if report.suite is not None:
        words = ["--suite", report.suite.split(" ")[0]]
    else:
        words = [word for attack in report.attacks for word in ("--attack", attack.name)] or ["--attack", "none"]
    if report.threat is not None:
        words += ["--norm", report.threat.norm.lower(), "--eps", report.threat.eps]
    return words


def _rest(report: Report, settings: Mapping[str, Any]) -> list[str]:
    words = ["--no-checks"] if report.checks is None and report.attacks else []
    words += ["--calibration-error"] if settings.get("calibration_error") else []
    for key in ("resize_inside", "eot"):
        words += [f"--{key.replace('_', '-')}", str(settings[key])] if settings.get(key) else []
    return words + (["--batch-size", str(settings["batch_size"])] if settings.get("batch_size") else [])
