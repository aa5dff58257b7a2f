"""`laat anchors`: class names in, anchors.st out."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from laatcli import options
from laatcli.console import Column, Console
from stages import artifacts
from stages.anchors.anchor_set import AnchorSet
from stages.anchors.bundled import BUNDLED_LISTS, bundled_classes
from stages.classes import ClassGroups, fold, read_class_file
from stages.data.request import ImageRequest
from stages.errors import UsageError
from stages.expand import cosine_figures

EXAMPLES = (
    "laat anchors --classes classes.txt",
    "laat anchors --classes shapes --model demo -o anchors.st",
)


class Source(str, Enum):
    """Where anchors come from."""

    text = "text"
    simplex = "simplex"
    random = "random"


def anchors(
    console: Console,
    classes: Annotated[str | None, typer.Option(help="File with one class name a line, or 'shapes' or 'cifar-fs'.")] = None,
    data: Annotated[str | None, typer.Option(help="Take the class names of these images; see `laat train --help`.")] = None,
    label_column: Annotated[str | None, typer.Option(help="Column with the labels. \\[default: found by its type]")] = None,
    model: Annotated[str, typer.Option(help="open_clip name, local-dir:PATH, hf-hub:ORG/NAME, or demo.")] = "ViT-B-16",
    pretrained: Annotated[str, typer.Option(help="open_clip tag, or a safetensors weights file.")] = "openai",
    template: Annotated[
        list[str] | None,
        typer.Option(help="Prompt with {} for the class name; repeatable. \\[default: This is a photo of a {}]"),
    ] = None,
    templates: Annotated[
        str | None, typer.Option(help="'openai' (CLIP's ImageNet set) or a file with one template a line.")
    ] = None,
    source: Annotated[Source, typer.Option(help="text, or anchors without language: simplex (MMC) or random.")] = Source.text,
    features: Annotated[
        str | None, typer.Option(help="Take text features (C, D) from FILE.npy, FILE.safetensors or FILE:TENSOR.")
    ] = None,
    seen: Annotated[int | None, typer.Option(help="The first N classes are seen. \\[default: all]")] = None,
    val: Annotated[int, typer.Option(help="The next N classes are for validation.")] = 0,
    seen_file: Annotated[Path | None, typer.Option(help="File with the names of the seen classes.")] = None,
    val_file: Annotated[Path | None, typer.Option(help="File with the names of the validation classes.")] = None,
    dim: Annotated[int, typer.Option(help="Width of simplex and random anchors.")] = 512,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    allow_truncation: Annotated[
        bool, typer.Option("--allow-truncation", help="Accept prompts longer than the tokenizer's context.")
    ] = False,
    output: Annotated[Path, typer.Option("--output", "-o", help="Where to write; - is standard output.")] = Path("anchors.st"),
) -> None:
    """Encode class names with a CLIP text tower into unit anchors."""
    console.stdout_taken = str(output) == artifacts.STDIO
    artifacts.check_writable(output)
    names, groups = _names_and_groups(classes, data, label_column, seen, val, seen_file, val_file)
    if features is not None:
        from stages.anchors.text import imported_anchors

        made = imported_anchors(names, groups, features)
    elif source is not Source.text:
        from stages.anchors.text import constructed_anchors

        made = constructed_anchors(names, groups, source.value, dim, seed)
    else:
        made = _encoded(console, names, groups, model, pretrained, template or [], templates, device, allow_truncation)
    written = artifacts.write(made.to_artifact(), output)
    _show(console, made, output, written.sha256)


def _encoded(
    console: Console,
    names: list[str],
    groups: ClassGroups,
    model: str,
    pretrained: str,
    template: list[str],
    preset: str | None,
    device: str,
    allow_truncation: bool,
) -> AnchorSet:
    from stages.anchors.templates import resolve_templates

    prompts = resolve_templates(template, preset)
    console.note(f"loading {model}" + ("" if ":" in model or model == "demo" else f" ({pretrained})"))
    from stages.anchors.encoder import load_encoder
    from stages.anchors.text import text_anchors
    from stages.devices import resolve_device

    encoder = load_encoder(model, pretrained, resolve_device(device))
    return text_anchors(names, groups, encoder, prompts, allow_truncation=allow_truncation)


def _names_and_groups(
    classes: str | None,
    data: str | None,
    label_column: str | None,
    seen: int | None,
    val: int,
    seen_file: Path | None,
    val_file: Path | None,
) -> tuple[list[str], ClassGroups]:
    if (classes is None) == (data is None):
        raise UsageError("give the class names with either --classes FILE or --data DATA", f"for example `{EXAMPLES[0]}`")
    if (seen is not None and seen_file) or (val and val_file) or (val and seen_file and not val_file):
        raise UsageError("the groups are given twice", "use --seen and --val, or --seen-file and --val-file")
    bundled = next((name for name in BUNDLED_LISTS if name in (classes, data)), None)
    groups = None
    if bundled:
        names, groups = bundled_classes(bundled)
    elif classes is not None:
        names = read_class_file(classes)
    else:
        from stages.data.sources import class_names

        names = class_names(ImageRequest(data, label_column=label_column))
    if seen_file or val_file:
        vals = read_class_file(val_file) if val_file else []
        seens = read_class_file(seen_file) if seen_file else _others(names, vals)
        groups = ClassGroups.from_names(names, seens, vals)
    elif groups is None or seen is not None or val:
        groups = ClassGroups.from_counts(len(names), seen, val)
    return names, groups


def _others(names: list[str], vals: list[str]) -> list[str]:
    folded = {fold(name) for name in vals}
    return [name for name in names if fold(name) not in folded]


def _show(console: Console, made: AnchorSet, output: Path, sha256: str) -> None:
    figures = cosine_figures(made.vectors)
    duplicates = made.near_duplicates()
    counts = {group: len(made.indices(group)) for group in ("seen", "val", "novel")}
    console.result(
        {
            "output": str(output),
            "sha256": sha256,
            "classes": len(made.classes),
            "groups": counts,
            "width": made.vectors.shape[1],
            "origin": made.origin,
            "cosines": figures,
            "near_duplicates": [{"classes": [one, two], "cosine": cosine} for one, two, cosine in duplicates],
        }
    )
    console.line(
        f"{output}: {len(made.classes)} anchors of width {made.vectors.shape[1]} "
        f"({counts['seen']} seen, {counts['val']} val, {counts['novel']} novel)"
    )
    console.table(
        [
            Column("cosine of pairs"),
            Column("mean", True),
            Column("min", True),
            Column("max", True),
            Column("smallest angle", True),
        ],
        [
            [
                "",
                *(f"{figures[key]:.3f}" for key in ("mean_cosine", "min_cosine", "max_cosine")),
                f"{figures['smallest_angle_degrees']:.1f}°",
            ]
        ],
    )
    for one, two, cosine in duplicates:
        console.warn(f"'{one}' and '{two}' are nearly the same anchor (cosine {cosine:.3f})")
