"""`laat inspect`: what an artifact is, holds and came from."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any

import typer

from laatcli.console import Column, Console
from laatcli.cosines import measure_cosines
from stages.anchors.anchor_set import AnchorSet
from stages.files import artifacts
from stages.text import counted

EXAMPLES = ("laat inspect expanded.st", "laat inspect run/model.st --json")
_NAMES_SHOWN = 12
_SHOWN_APART = ("calibration", "classes", "groups")


def inspect(
    console: Console,
    file: Annotated[Path, typer.Argument(help="An artifact; - is standard input.", show_default=False)],
) -> None:
    """Show an artifact's kind, classes, parameters, lineage and statistics."""
    artifact = artifacts.read(file)
    tensors = artifacts.describe(artifact.tensors)
    record: dict[str, Any] = {
        "file": str(file),
        "kind": artifact.kind,
        "format": artifact.format,
        "verified": artifact.verified,
        "tool": artifact.tool,
        "sha256": artifact.sha256,
        "params": artifact.params,
        "inputs": artifact.inputs,
        "tensors": tensors,
    }
    if "vectors" in artifact.tensors:
        anchors = AnchorSet.from_artifact(artifact, f"'{file}'")
        record["cosines"] = measure_cosines(console, anchors.vectors).to_record()
    console.result(record)
    console.line(f"{file}: {artifact.kind}, format {artifact.format}, written by laat {artifact.tool}")
    console.line(f"sha256 {artifact.sha256}")
    console.line(f"digest: {'verified' if artifact.verified else 'none, unverified'}")
    _show_import(console, artifact.params)
    _show_classes(console, artifact.params)
    _show_params(console, artifact.params)
    if artifact.kind == "model":
        from stages.files.training_params import is_anchored
        from stages.statistics.calibration import calibration_lines, calibration_of

        for line in calibration_lines(calibration_of(artifact), anchored=is_anchored(artifact.params["training"])):
            console.line(line)
    if "cosines" in record:
        console.table(
            [Column("cosines"), Column("", True)], [[key, f"{value:.3f}"] for key, value in record["cosines"].items()]
        )
    _show_tensors(console, tensors)
    console.line("lineage" if artifact.inputs else "lineage: made from no other artifact")
    _show_inputs(console, artifact.inputs, 1)


def _show_import(console: Console, params: dict[str, Any]) -> None:
    imported = params.get("training", {}).get("imported")
    if imported is not None:
        console.line(f"imported from {imported['file']} ({imported['layout']}): its training is unknown")
        if not imported["groups_known"]:
            console.line("whether it was trained on its classes is unknown")


def _show_classes(console: Console, params: dict[str, Any]) -> None:
    classes = params.get("classes", [])
    groups = params.get("groups") or {str(params.get("group", "all")): list(range(len(classes)))}
    for group, members in groups.items():
        if members:
            names = ", ".join(classes[at] for at in members[:_NAMES_SHOWN])
            more = f", … ({len(members) - _NAMES_SHOWN} more)" if len(members) > _NAMES_SHOWN else ""
            console.line(f"{counted(len(members), f'{group} class', f'{group} classes')}: {names}{more}")


def _show_params(console: Console, params: dict[str, Any]) -> None:
    rows = [
        [name, _short(value)]
        for name, value in sorted(_flat({key: params[key] for key in params if key not in _SHOWN_APART}).items())
    ]
    console.table([Column("parameter"), Column("value")], rows)


def _flat(record: dict[str, Any], above: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in record.items():
        if isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
            flat |= _flat({str(number): one for number, one in enumerate(value, 1)}, f"{above}{key}.")
        else:
            flat |= _flat(value, f"{above}{key}.") if isinstance(value, dict) else {f"{above}{key}": value}
    return flat


def _short(value: Any) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 200 else f"{text[:200]}…"


def _show_tensors(console: Console, tensors: list[dict[str, Any]]) -> None:
    """A row a tensor; a model's weights as one row (all of them are in --json)."""
    weights = [row for row in tensors if row["tensor"].startswith("weights.")]
    rows = [
        [
            row["tensor"],
            row["dtype"],
            "×".join(map(str, row["shape"])) or "scalar",
            *(_figure(row, key) for key in ("min", "mean", "max")),
        ]
        for row in tensors
        if row not in weights
    ]
    if weights:
        numbers = sum(math.prod(row["shape"]) for row in weights)
        rows.append([f"weights ({len(weights)} tensors)", "", f"{numbers:,} numbers", "", "", ""])
    names = (
        Column("tensor"),
        Column("type"),
        Column("shape"),
        Column("min", True),
        Column("mean", True),
        Column("max", True),
    )
    console.table(names, rows)


def _figure(row: dict[str, Any], key: str) -> str:
    return f"{row[key]:.4g}" if key in row else "–"


def _show_inputs(console: Console, inputs: dict[str, Any], depth: int) -> None:
    for name, parent in inputs.items():
        console.line(f"{'  ' * depth}{name}: {parent['kind']} {parent['sha256'][:16]}…")
        _show_inputs(console, parent.get("inputs", {}), depth + 1)
