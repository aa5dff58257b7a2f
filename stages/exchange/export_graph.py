"""A classifier as a graph for other programs: pixels and anchors in, logits and embeddings out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stages.clip_weights import quiet
from stages.errors import InputError
from stages.models.classifier import Classifier
from stages.models.folding import folded
from stages.text import first_line

OPSET = 18  # the lowest one that torch's exporter writes; later runtimes read it too
RECORD = "laat"  # key of the record in the metadata of an ONNX file; in a .pt2 file `laat.json`
UINT8, FLOAT = "uint8", "float"
# sizes of the traced example: neither 0 nor 1, which torch.export takes for constants, and unlike each other
_IMAGES, _CLASSES = 5, 3


class ExportModule(nn.Module):
    """What is exported.

    Shapes: images (N, 3, S, S), anchors (C, D) with unit rows -> logits (N, C), embeddings (N, D). Of a closed set of classes:
    images -> logits.

    Args:
        classifier: in eval mode on the CPU; its seen-class bias is not applied.
        pixels: 'uint8' (0 to 255) or 'float' (float32 in [0, 1]).
    """

    anchors: Tensor

    def __init__(self, classifier: Classifier, pixels: str) -> None:
        super().__init__()
        self.embedding = classifier.embedding
        self.levels = pixels == UINT8
        self._unit, self.closed, self.logit_scale = classifier.unit, classifier.closed, classifier.logit_scale
        kinds = (one.dtype for one in classifier.embedding.parameters() if one.is_floating_point())
        self.dtype = next(kinds, torch.float32)
        if self.closed:
            self.register_buffer("anchors", classifier.anchors.clone(), persistent=False)

    def forward(self, images: Tensor, anchors: Tensor | None = None) -> Tensor | tuple[Tensor, Tensor]:
        """The logits and the embeddings, float32."""
        # see `images_for`, whose `contiguous` is left out of a trace with an example that is so already
        x = images.to(self.dtype, memory_format=torch.contiguous_format)
        x = x / 255 if self.levels else x
        embeddings = self._unit(self.embedding(x))
        heads = self.anchors if anchors is None else anchors
        logits = (self.logit_scale * (embeddings @ heads.to(embeddings.dtype).T)).float()
        return logits if self.closed else (logits, embeddings.float())

    def example(self, size: int, width: int) -> tuple[Tensor, ...]:
        """Inputs to trace it with: images of `size` px, and anchors of `width` unless the set of classes is closed."""
        shape = _IMAGES, 3, size, size
        images = torch.zeros(shape, dtype=torch.uint8) if self.levels else torch.zeros(shape)
        return (images,) if self.closed else (images, torch.eye(_CLASSES, width))


def trace(module: ExportModule, size: int, width: int) -> torch.export.ExportedProgram:
    """The exported program, for any number of images and anchors.

    Args:
        module: in eval mode.
        size: side of the images.
        width: of the anchors.

    Raises InputError if torch.export cannot trace the model.
    """
    dims: dict[str, Any] = {"images": {0: torch.export.Dim("batch")}}
    if not module.closed:
        dims["anchors"] = {0: torch.export.Dim("classes")}
    try:
        with quiet(), torch.no_grad():
            program = torch.export.export(module, module.example(size, width), dynamic_shapes=dims)
    except Exception as error:  # torch.export raises many types for what it cannot trace
        raise InputError(
            f"torch.export cannot trace the model: {first_line(error)}",
            "export the weights with --format torch, or rewrite what depends on values or on the batch size in its forward",
        ) from error
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # it has paths of this machine
    return program


def write_pt2(module: ExportModule, size: int, width: int, path: Path, record: Mapping[str, Any]) -> None:
    """Write the program of torch.export, with the record as its extra file `laat.json`. Raises InputError, see `trace`."""
    program = trace(module, size, width)
    program.example_inputs = None  # they would be pickled
    with quiet():
        torch.export.save(program, path, extra_files={f"{RECORD}.json": json.dumps(record)})


def write_onnx(module: ExportModule, size: int, width: int, path: Path, record: Mapping[str, Any]) -> None:
    """Write an ONNX file, of more than 2 GB with its weights beside it in PATH.data.

    Raises InputError if the model cannot be traced, or has an operation that ONNX has not.
    """
    with folded(module):
        program = trace(module, size, width)
    names = ("images",) if module.closed else ("images", "anchors")
    outputs = ("logits",) if module.closed else ("logits", "embeddings")
    try:
        with quiet():
            made = torch.onnx.export(
                program, dynamo=True, opset_version=OPSET, input_names=names, output_names=outputs, verbose=False
            )
    except Exception as error:  # of torch.onnx, onnxscript or onnx
        raise InputError(
            f"the model cannot be written as ONNX: {first_line(error)}", "export it as a .pt2 file, or with --format torch"
        ) from error
    assert made is not None
    _clean(made.model)
    made.model.metadata_props.clear()
    made.model.metadata_props[RECORD] = json.dumps(record)
    made.save(path)


def _clean(model: Any) -> None:
    """Name the free dimensions, and drop stack traces and the like, which have paths of this machine."""
    graph = model.graph
    for at, value in enumerate((*graph.inputs, *graph.outputs)):
        first = ("batch", "classes")[at % len(graph.inputs)] if at < len(graph.inputs) else "batch"
        _free_dimension(value, first, "classes" if value.name == "logits" and len(graph.inputs) == 2 else "")
    kept = {*graph.outputs, *graph.inputs}
    for value in (*graph.inputs, *graph.initializers.values()):
        value.metadata_props.clear()
    for node in graph:
        node.metadata_props.clear()
        node.doc_string = None
        for value in node.outputs:
            value.metadata_props.clear()
            if value not in kept:
                value.shape = None  # in terms of the old names; runtimes infer it
    graph.metadata_props.clear()
    graph.doc_string = None


def _free_dimension(value: Any, first: str, last: str) -> None:
    sizes = [*value.shape]
    sizes[0] = first
    if last:
        sizes[-1] = last
    value.shape = type(value.shape)(sizes)
