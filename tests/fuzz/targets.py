"""Every kind of file that a command opens: how it is mutated, and by which commands it is read."""

from __future__ import annotations

from dataclasses import dataclass

from tests.fuzz import file_mutations as of
from tests.fuzz import table_mutations as of_tables
from tests.fuzz.file_mutations import Mutation
from tests.fuzz.json_mutations import mutated_bytes
from tests.fuzz.workplace import TRAIN

Command = tuple[object, ...]


@dataclass(frozen=True)
class Target:
    """One kind of file.

    Attributes:
        file: the file that is mutated.
        mutations: ways to mutate it, one a case.
        commands: those that read it, one a case; those that come first are cheap.
        share: of the cases, relative to other kinds; small for slow commands.
        report: the report whose digest of this file is made anew, and the name of that entry.
    """

    file: str
    mutations: tuple[Mutation, ...]
    commands: tuple[Command, ...]
    share: float = 1.0
    report: tuple[str, str] | None = None


_ARTIFACT = (of.artifact_record, of.artifact_record, of.artifact_record, of.artifact_header, of.tensors, mutated_bytes)
_OUT = ("-o", "out/a.st")
_SUITE = ("--attack", "none", "--no-checks")
_QUICK = ("--attack", "fgsm", "--attack", "pgd-2", "--no-checks")
_MODEL = ("run/model.st", "--data", "photos")
_REPORT = ("--force", "-o", "out/report.json")
_SAVED = ("--force", *_OUT)
_TABLE = (of_tables.parquet_cells, of_tables.parquet_cells, mutated_bytes)
_CLASSES = ("anchors", "--source", "random", "--dim", 8, *_OUT)


def _shown(file: str) -> tuple[Command, ...]:
    forms: tuple[Command, ...] = ((), ("--json",), ("--format", "latex"), (f"other-{file}",))
    return tuple(("report", file, *form) for form in forms)


TARGETS: dict[str, Target] = {
    "anchors": Target(
        "anchors.st",
        _ARTIFACT,
        (
            ("inspect", "anchors.st"),
            ("inspect", "anchors.st", "--json"),
            ("expand", "anchors.st", *_OUT),
            ("expand", "anchors.st", "--like", "expanded.st", *_OUT),
        ),
        4,
    ),
    "expanded anchors": Target(
        "expanded.st",
        _ARTIFACT,
        (("inspect", "expanded.st"), ("expand", "anchors.st", "--like", "expanded.st", *_OUT)),
        4,
    ),
    "whitened anchors": Target(
        "whitened.st",
        _ARTIFACT,
        (("inspect", "whitened.st"), ("expand", "anchors.st", "--like", "whitened.st", *_OUT)),
        2,
    ),
    "merged anchors": Target(
        "merged.st",
        _ARTIFACT,
        (("inspect", "merged.st"), ("expand", "merged.st", *_OUT), ("merge", "merged.st", "anchors.st", *_OUT)),
        2,
    ),
    "descriptions": Target(
        "descriptions.json",
        (of.json_file, of.json_file, mutated_bytes),
        (("anchors", "--classes", "classes.txt", "--descriptions", "descriptions.json", "--model", "demo", *_OUT),),
        0.5,
    ),
    "anchors in use": Target(
        "expanded.st",
        _ARTIFACT,
        (
            ("eval", *_MODEL, "--anchors", "expanded.st", *_SUITE, *_REPORT),
            ("attack", *_MODEL, "--anchors", "expanded.st", "--attack", "fgsm", *_SAVED),
            (*TRAIN[:3], *TRAIN[5:], "--epochs", 1, "--anchors", "expanded.st", "--out", "out/run"),
        ),
        0.5,
    ),
    "checkpoint": Target("run/model.st", _ARTIFACT, (("inspect", "run/model.st"), ("inspect", "run/model.st", "--json")), 3),
    "checkpoint in use": Target(
        "run/model.st",
        _ARTIFACT,
        (
            ("eval", *_MODEL, *_SUITE, *_REPORT),
            ("eval", *_MODEL, "--protocol", "gzsl", *_SUITE, *_REPORT),
            ("attack", *_MODEL, "--attack", "fgsm", *_SAVED),
            ("eval", "run/model.st", "--adversarial", "adversarial.st", *_REPORT),
            (*TRAIN, "--init", "run/model.st", "--epochs", 1, "--out", "out/run"),
        ),
        1,
    ),
    "training state": Target(
        "unfinished/state.st",
        _ARTIFACT,
        (
            ("inspect", "unfinished/state.st"),
            (*TRAIN, "--out", "unfinished"),
            (*TRAIN, "--out", "unfinished", "--resume", "auto"),
        ),
        0.5,
    ),
    "finished run": Target("run/last.st", _ARTIFACT, (TRAIN, (*TRAIN, "--resume", "auto")), 0.3),
    "metrics of a finished run": Target("run/metrics.jsonl", (of.json_lines, mutated_bytes), (TRAIN,), 0.2),
    "metrics": Target(
        "run/metrics.jsonl",
        (of.json_lines, of.json_lines, mutated_bytes),
        (("plot", "run", "-o", "out/curves.png"), ("plot", "run", "unfinished", "-o", "out/curves.png")),
        0.3,
    ),
    "adversarial images": Target("adversarial.st", _ARTIFACT, (("inspect", "adversarial.st"),), 2),
    "earlier adversarial images": Target(
        "adversarial.st",
        _ARTIFACT,
        (("attack", *_MODEL, "--attack", "fgsm", "--classes-from", "all", "-o", "adversarial.st"),),
        0.5,
    ),
    "earlier report": Target(
        "report.json",
        (of.report, of.report, of.report, mutated_bytes),
        (("eval", *_MODEL, *_QUICK, "-o", "report.json"), ("eval", *_MODEL, *_SUITE, "-o", "report.json")),
        0.5,
    ),
    "adversarial images in use": Target(
        "adversarial.st", _ARTIFACT, (("eval", "run/model.st", "--adversarial", "adversarial.st", *_REPORT),), 1
    ),
    **{
        f"report, {name}": Target(
            f"{name}.json",
            (of.report, of.report, of.report, mutated_bytes),
            (
                *_shown(f"{name}.json"),
                ("compare", f"{name}.json", f"{name}.json"),
                ("compare", f"{name}.json", f"other-{name}.json"),
            ),
            2,
        )
        for name in ("report", "episodes", "gzsl")
    },
    **{
        f"rows, {name}": Target(
            f"{name}.rows.parquet",
            (
                of_tables.parquet_record,
                of_tables.parquet_cells,
                of_tables.parquet_cells,
                of_tables.parquet_cells,
                mutated_bytes,
            ),
            (("report", f"{name}.json"), ("compare", f"{name}.json", f"other-{name}.json")),
            1,
            (f"{name}.json", "rows"),
        )
        for name in ("report", "episodes", "gzsl")
    },
    "episodes": Target(
        "episodes.episodes.parquet",
        (of_tables.parquet_record, of_tables.parquet_record, of_tables.parquet_cells, of_tables.parquet_cells, mutated_bytes),
        (("eval", *_MODEL, "--replay", "episodes.episodes.parquet", *_SUITE, *_REPORT), ("report", "episodes.json")),
        1,
        ("episodes.json", "episodes"),
    ),
    "laat.toml": Target(
        "laat.toml",
        (of.toml, of.toml, mutated_bytes),
        (("anchors",), ("suites",), ("train", "--dry-run"), ("train", "--dry-run", "--json")),
        3,
    ),
    "class names": Target("classes.txt", (of.text, of.text, mutated_bytes), ((*_CLASSES, "--classes", "classes.txt"),), 2),
    "groups of classes": Target(
        "seen.txt",
        (of.text, mutated_bytes),
        (
            (*_CLASSES, "--classes", "classes.txt", "--seen-file", "seen.txt"),
            (*_CLASSES, "--classes", "classes.txt", "--val-file", "seen.txt"),
        ),
    ),
    "classes to evaluate": Target(
        "novel.txt", (of.text, mutated_bytes), (("eval", *_MODEL, "--classes-from", "novel.txt", *_SUITE, *_REPORT),), 0.2
    ),
    "features, .npy": Target(
        "features.npy",
        (of.npy, of.npy, mutated_bytes),
        ((*_CLASSES, "--classes", "classes.txt", "--features", "features.npy"),),
    ),
    "features, safetensors": Target(
        "features.safetensors",
        (of.tensors, mutated_bytes),
        ((*_CLASSES, "--classes", "classes.txt", "--features", "features.safetensors"),),
    ),
    "templates": Target(
        "templates.txt",
        (of.text, mutated_bytes),
        (("anchors", "--classes", "seen.txt", "--model", "local-dir:clip", "--templates", "templates.txt", *_OUT),),
        0.1,
    ),
    "open_clip configuration": Target(
        "clip/open_clip_config.json",
        (of.json_file, of.json_file, mutated_bytes),
        (("anchors", "--classes", "seen.txt", "--model", "local-dir:clip", *_OUT),),
        0.3,
    ),
    "open_clip weights": Target(
        "clip/open_clip_model.safetensors",
        (of.tensors, mutated_bytes),
        (("anchors", "--classes", "seen.txt", "--model", "local-dir:clip", *_OUT),),
        0.1,
    ),
    "image": Target("photos/test/red_star/03.png", (mutated_bytes,), (("eval", *_MODEL, *_SUITE, *_REPORT),), 0.5),
    "parquet images": Target(
        "table.parquet",
        _TABLE,
        ((*_CLASSES, "--data", "table.parquet"), ("eval", "run/model.st", "--data", "table.parquet", *_SUITE, *_REPORT)),
    ),
    "parquet images, text labels": Target("text.parquet", _TABLE, ((*_CLASSES, "--data", "text.parquet"),)),
    **{
        f"saved dataset, {name}": Target(
            f"saved/{file}",
            (mutated_bytes,) if file.endswith(".arrow") else (of.json_file, of.json_file, mutated_bytes),
            ((*_CLASSES, "--data", "saved"), ("eval", "run/model.st", "--data", "saved", *_SUITE, *_REPORT)),
            0.2,
        )
        for name, file in (
            ("splits", "dataset_dict.json"),
            ("state", "test/state.json"),
            ("information", "test/dataset_info.json"),
            ("table", "test/data-00000-of-00001.arrow"),
        )
    },
}
