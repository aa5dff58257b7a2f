"""The export stage: a classifier as files for programs without laat, each run and compared before it is in its place."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from stages.clip_weights import CONFIG, quiet
from stages.data.request import ImageRequest
from stages.errors import InputError, UsageError
from stages.evaluation.clean_passes import require_same_passes
from stages.exchange.export_check import Comparison, Images, compare, read_images
from stages.exchange.export_graph import OPSET, RECORD, ExportModule, write_onnx, write_pt2
from stages.exchange.export_open_clip import OpenClipRun, is_clip, write_open_clip
from stages.exchange.export_options import ANCHORS, FOLDERS, IN_FOLDERS, ExportOptions, check_place, in_the_way
from stages.files import artifacts
from stages.files.writing import has_bytes, move_files, staged_folder
from stages.models.classifier import Classifier, Progress
from stages.models.embedding import EmbeddingModel, images_for
from stages.models.frozen import inference
from stages.models.require import require_anchored, require_classifier
from stages.pixels import to_pixels
from stages.version import __version__

_TORCH_CONFIG, _TORCH_WEIGHTS = "config.json", "model.safetensors"
_TORCH = f"torch {torch.__version__.partition('+')[0]}"
_RANDOMISED = "a file cannot be compared with it", "export a model that draws no random numbers in eval mode"
_HOW = "shorter side to `size` pixels (bicubic, antialiased), then the central square"


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        path: the file or folder.
        format: onnx, pt2, open_clip or torch.
        files: name -> bytes.
        record: what the files say of the model.
        comparison: of the written files with the classifier.
        seconds: for writing and comparing.
    """

    path: Path
    format: str
    files: dict[str, int]
    record: dict[str, Any]
    comparison: Comparison
    seconds: float


def export(
    classifier: Classifier,
    path: str | Path,
    *,
    data: Any = None,
    format: str | None = None,
    pixels: str = "uint8",
    text_tower: str | None = None,
    resize: int | None = None,
    tolerance: float | None = None,
    force: bool = False,
) -> Exported:
    """Write a classifier for programs without laat, as `laat export` does.

    Args:
        classifier: its anchors are written beside it; its weights and modes do not change.
        path: a file that ends in .onnx or .pt2, or a folder.
        data: images to compare on, as `dataset` of `laat.evaluate`; None is the bundled shapes.
        format, pixels, text_tower, tolerance, force: see `stages.exchange.export_options.ExportOptions`.
        resize: side of the images, of a classifier that takes any size.

    Returns what was written, and the comparison.

    Raises as `export_classifier`, and as `read_images` for the images.
    """
    require_anchored(require_classifier(classifier))
    options = ExportOptions(format, pixels, text_tower, tolerance, force)
    check_place(Path(path), options.format_of(Path(path)), force=force)
    images = read_images(ImageRequest(data, resize=resize), classifier.image_size)
    return export_classifier(classifier, Path(path), options, images)


def export_classifier(
    classifier: Classifier, path: Path, options: ExportOptions, images: Images, progress: Progress | None = None
) -> Exported:
    """Write a classifier and compare what was written with it; after an error nothing is there.

    Args:
        classifier: with one head.
        path: a file that ends in .onnx or .pt2, or a folder.
        options: format, pixels and the like.
        images: to compare on, in the size of the model.
        progress: called with (images compared, in total, runtime).

    Raises:
        UsageError: a file that exists, an option that does not fit, a randomised model.
        InputError: a model that cannot be exported in this format.
        MissingError: a package or a text tower that is missing; a file that cannot be written.
        ComputeError: what was written does not give what the classifier gives.
    """
    start = time.monotonic()
    form = options.format_of(path) or ("open_clip" if is_clip(classifier) else "torch")
    options.check_fits(form)
    check_place(path, form, force=options.force)
    if classifier.anchors.ndim != 2:
        raise UsageError("a classifier with several heads cannot be exported", "choose one with classifier.over(…)")
    if classifier.device.type != "cpu":
        classifier = deepcopy(classifier).cpu()
    require_same_passes({"": classifier}, images.pixels, 1, *_RANDOMISED)
    size = images.pixels.shape[-1]
    with staged_folder(path) as part, inference(classifier):
        main = path.name if form not in FOLDERS else CONFIG if form == "open_clip" else _TORCH_CONFIG
        record = _record(classifier, form, options.pixels, size)
        if not classifier.closed:
            record["anchors"] = _write_anchors(classifier, part, path, form, force=options.force)
        run, runtime = _WRITERS[form](classifier, part / main, record, options)
        comparison = compare(classifier, run, images, runtime, tolerance=options.tolerance, progress=progress)
        files = {file.name: file.stat().st_size for file in sorted(part.iterdir())}
        if form in FOLDERS:
            move_files(part, path, last=main, known=IN_FOLDERS)
        else:
            move_files(part, path.parent, last=main, known=(f"{path.name}.data",))
    return Exported(path, form, files, record, comparison, time.monotonic() - start)


def _write_anchors(classifier: Classifier, part: Path, path: Path, form: str, *, force: bool) -> dict[str, str]:
    """Write the anchors beside the model; those of another export of the same classifier stay. Returns their record."""
    name = ANCHORS if form in FOLDERS else f"{path.stem}.{ANCHORS}"
    data = artifacts.to_bytes(classifier.anchor_set.to_artifact())
    there = path.with_name(name)
    if form not in FOLDERS and not force and os.path.lexists(there) and not has_bytes(there, data):
        raise in_the_way(there)
    (part / name).write_bytes(data)
    return {"file": name, "sha256": hashlib.sha256(data).hexdigest()}


def _record(classifier: Classifier, form: str, pixels: str, size: int) -> dict[str, Any]:
    """What a program needs besides the weights; JSON-able."""
    found = classifier.calibration
    embedding, levels = classifier.embedding, pixels == "uint8" and form not in FOLDERS
    name = embedding.backbone_name if isinstance(embedding, EmbeddingModel) else type(embedding).__name__
    return {
        "format": 1,
        "tool": __version__,
        "model": {"backbone": name, "sha256": classifier.origin.digest},
        "images": {"dtype": "uint8" if levels else "float32", "range": [0, 255 if levels else 1], "size": size, "resize": _HOW},
        "classes": list(classifier.classes),
        "groups": None if classifier.origin.foreign else classifier.groups.to_record(),
        "anchors": None,
        "width": classifier.anchors.shape[1],
        "logit_scale": classifier.logit_scale,
        "confidence": {
            "temperature": 1.0 if found is None else found.temperature,
            "seen_bias": classifier.bias if found is None or found.bias is None else found.bias,
        },
        "calibration": None if found is None else found.to_record(),
        "threat": None if classifier.threat is None else classifier.threat.to_record(),
    }


# images uint8 (n, 3, S, S), anchors (C, D) -> logits (n, C); and the name of what runs it
_Runner = tuple[Callable[[Tensor, Tensor], Tensor], str]


def _onnx(classifier: Classifier, path: Path, record: dict[str, Any], options: ExportOptions) -> _Runner:
    import onnxruntime

    record["opset"] = OPSET
    module = ExportModule(classifier, options.pixels)
    write_onnx(module, record["images"]["size"], classifier.anchors.shape[1], path, record)
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3  # errors; the rest would go to standard error
    session = cache(lambda: onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"]))

    def run(images: Tensor, anchors: Tensor) -> Tensor:
        given = {"images": _given(images, options.pixels).numpy()}
        given |= {} if classifier.closed else {"anchors": anchors.numpy()}
        return torch.from_numpy(session().run(["logits"], given)[0])

    return run, f"ONNX Runtime {onnxruntime.__version__}"


def _pt2(classifier: Classifier, path: Path, record: dict[str, Any], options: ExportOptions) -> _Runner:
    record["torch"] = torch.__version__
    module = ExportModule(classifier, options.pixels)
    write_pt2(module, record["images"]["size"], classifier.anchors.shape[1], path, record)
    with quiet():
        loaded = torch.export.load(path).module()

    def run(images: Tensor, anchors: Tensor) -> Tensor:
        given = _given(images, options.pixels)
        logits: Tensor = loaded(given) if classifier.closed else loaded(given, anchors)[0]
        return logits

    return run, _TORCH


def _torch(classifier: Classifier, path: Path, record: dict[str, Any], options: ExportOptions) -> _Runner:
    embedding = classifier.embedding
    weights = {name: value.detach().contiguous().clone() for name, value in embedding.state_dict().items()}
    path.with_name(_TORCH_WEIGHTS).write_bytes(save_tensors(weights))
    if isinstance(embedding, EmbeddingModel):
        mean, std = (value.flatten().tolist() for value in (embedding.mean, embedding.std))
        record["architecture"] = {**embedding.architecture, "mean": mean, "std": std}
    path.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    loaded = _reloaded(embedding, path.with_name(_TORCH_WEIGHTS))

    def run(images: Tensor, anchors: Tensor) -> Tensor:
        raw = classifier.unit(loaded(images_for(loaded, to_pixels(images, torch.arange(len(images)), "cpu"))))
        return classifier.logit_scale * (raw @ anchors.to(raw.dtype).T).float()

    return run, _TORCH


def _reloaded(embedding: nn.Module, weights: Path) -> nn.Module:
    """The module with the weights of the file."""
    made = deepcopy(embedding)
    made.load_state_dict(load_file(weights))
    return made.eval()


def _open_clip(classifier: Classifier, path: Path, record: dict[str, Any], options: ExportOptions) -> _Runner:
    import open_clip

    if classifier.closed:
        raise InputError("the model has no text tower", "export it with --format torch")
    write_open_clip(classifier, path.parent, options.text_tower)
    path.with_name(f"{RECORD}.json").write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return OpenClipRun(path.parent, classifier.anchor_set), f"open_clip {open_clip.__version__}"


_WRITERS = {"onnx": _onnx, "pt2": _pt2, "torch": _torch, "open_clip": _open_clip}


def _given(images: Tensor, pixels: str) -> Tensor:
    """Images uint8 as the exported model takes them."""
    return images if pixels == "uint8" else to_pixels(images, torch.arange(len(images)), "cpu")
