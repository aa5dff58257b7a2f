"""A folder with one small file of every kind that a command opens."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

import datasets
import numpy as np
from safetensors.numpy import save_file

from stages.files.records import json_digest
from tests.fuzz.commands import run
from tests.laatcli.conftest import NAMES, class_folders
from tests.stages.anchors.encoders import tiny_folder

TRAIN = ("train", "--data", "photos", "--epochs", 2, "--steps", 1, "--backbone", "conv4-8", "--batch-size", 16)
LAAT_TOML = """
[anchors]
classes = "classes.txt"
source = "random"
dim = 16
seed = 0
template = ["a {}", "the {}"]
allow-truncation = false
output = "out/a.st"
[train]
data = "photos"
epochs = 2
lr = 0.1
augment = false
eps = "8/255"
backbone = "conv4-8"
save-every = "60s"
[eval]
attack = ["fgsm"]
max-images = 10
"""


def _done(*args: object) -> None:
    ended = run(*args)
    assert (ended.code, ended.error) == (0, None), ended


def build(folder: Path) -> None:
    """Make the files in `folder`, which must be the current one."""
    Path("out").mkdir()
    Path("classes.txt").write_text("\n".join(NAMES), encoding="utf-8")
    Path("seen.txt").write_text("\n".join(NAMES[:3]), encoding="utf-8")
    Path("val.txt").write_text(NAMES[3], encoding="utf-8")
    Path("novel.txt").write_text("\n".join(NAMES[4:]), encoding="utf-8")
    Path("templates.txt").write_text("a {}\na picture of a {}", encoding="utf-8")
    Path("options.toml").write_text(LAAT_TOML, encoding="utf-8")
    class_folders(folder / "photos/train", 3)
    class_folders(folder / "photos/test", 2, first=3)
    groups = ("--seen-file", "seen.txt", "--val-file", "val.txt")
    _done("anchors", "--classes", "classes.txt", "--source", "random", "--dim", 16, *groups)
    _done("expand", "anchors.st")
    _done("expand", "anchors.st", "--method", "centre", "-o", "centred.st")
    _done("expand", "anchors.st", "--method", "whiten", "-o", "whitened.st")
    _done("merge", "anchors.st", "centred.st")
    Path("descriptions.json").write_text(json.dumps({name: [f"A {name}.", f"One {name}."] for name in NAMES}), encoding="utf-8")
    _done(*TRAIN)
    _unfinished()
    model = ("run/model.st", "--data", "photos")
    _done("attack", *model, "--attack", "fgsm", "--classes-from", "all")
    quick = ("--attack", "fgsm", "--attack", "pgd-2", "--no-checks")
    _done("eval", *model, *quick, "-o", "report.json")
    episodes = ("--protocol", "episodes", "--ways", 2, "--shots", 1, "--queries", 1, "--episodes", 4)
    _done("eval", *model, *quick, *episodes, "-o", "episodes.json")
    _done("eval", *model, "--attack", "fgsm", "--protocol", "gzsl", "-o", "gzsl.json")
    _tables()
    features = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)
    np.save("features.npy", features)
    save_file({"text": features}, "features.safetensors")
    tiny_folder(folder / "clip")
    # what must not be lost, where commands write
    for name in ("a.st", "report.json", "report.rows.parquet", "curves.png"):
        Path("out", name).write_bytes(b"the only copy")


def _unfinished() -> None:
    """A run that was interrupted after its first epoch."""
    from stages.training.run import _Run

    def interrupt(self: _Run, report: object) -> None:
        done(self, report)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    done = _Run._epoch_done
    _Run._epoch_done = interrupt  # type: ignore[method-assign]
    try:
        assert run(*TRAIN, "--out", "unfinished").code == 130
    finally:
        _Run._epoch_done = done  # type: ignore[method-assign]


def _tables() -> None:
    files = sorted(Path("photos").rglob("*.png"))
    names = [name.replace(" ", "_") for name in NAMES]
    table = datasets.Dataset.from_dict(
        {
            "image": [{"bytes": file.read_bytes(), "path": None} for file in files],
            "label": [names.index(file.parent.name) for file in files],
        },
        features=datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=names)}),
    )
    datasets.disable_progress_bars()
    table.to_parquet("table.parquet")
    text = table.cast_column("label", datasets.Value("string"))
    text.to_parquet("text.parquet")
    datasets.DatasetDict({"train": table, "test": table}).save_to_disk("saved")


class Workplace:
    """The files in a folder, and what they were."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.sound = {name: (folder / name).read_bytes() for name in self._stamps()}
        self._before = self._stamps()
        self._folders = {path for path in folder.rglob("*") if path.is_dir()}

    def _stamps(self) -> dict[str, tuple[int, ...]]:
        """What changes when a file is written or replaced, of every file."""
        found: dict[str, tuple[int, ...]] = {}
        start = len(str(self.folder)) + 1
        for folder, _, names in os.walk(self.folder):
            for name in names:
                path = os.path.join(folder, name)
                about = os.lstat(path)
                found[path[start:]] = about.st_ino, about.st_size, about.st_mtime_ns
        return found

    def restore(self, *, keep: str) -> list[str]:
        """Make every file what it was; returns the files that were otherwise, but for `keep`."""
        now, changed = self._stamps(), []
        for name in sorted(now.keys() | self.sound.keys()):
            if now.get(name) == self._before.get(name):
                continue
            path, before = self.folder / name, self.sound.get(name)
            if name != keep and (name not in now or path.read_bytes() != before):
                changed.append(name)
            if before is None:
                path.unlink()
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(before)
        for path in sorted(self.folder.rglob("*"), reverse=True) if changed else ():
            if path.is_dir() and path not in self._folders:
                shutil.rmtree(path)
        self._before = self._stamps()
        return changed


def rows_digest(folder: Path, report: str, rows: str, part: str = "rows") -> None:
    """Write the SHA-256 of the rows into their report, with its digest."""
    path = folder / report
    record = json.loads(path.read_bytes())
    record[part]["sha256"] = hashlib.sha256((folder / rows).read_bytes()).hexdigest()
    record["digest"] = json_digest(json.dumps(record))
    path.write_text(json.dumps(record), encoding="utf-8")
