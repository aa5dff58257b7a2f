"""`laat anchors`: class names in, anchors.st out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from laatcli import options
from laatcli.class_names import ClassNames
from laatcli.console import Console
from laatcli.cosines import measure_cosines, near_duplicates, show_cosines, warn_near_duplicates
from laatcli.descriptions import DescriptionOptions, description_counts, show_counts, warn_other_number
from laatcli.inputs import read_like
from laatcli.options import DEVICES, ENCODER
from stages.anchors.anchor_set import AnchorSet
from stages.cosines import CosineFigures, simplex_figures
from stages.errors import UsageError
from stages.files import artifacts
from stages.files.reading import STDIO
from stages.parameters import MOST_SCALE, parameter
from stages.text import counted, is_text

if TYPE_CHECKING:
    from stages.anchors.descriptions import Described
    from stages.classes import ClassGroups

EXAMPLES = (
    "laat anchors --classes classes.txt",
    "laat anchors --classes classes.txt --descriptions cupl.json --per-class 10",
    'laat anchors --names "okapi,pagoda" --like model.anchors.st -o new.st',
)


class Source(str, Enum):
    """Where anchors come from."""

    text = "text"
    simplex = "simplex"
    random = "random"


@dataclass(frozen=True)
class Encoding:
    """The text encoder and its prompts."""

    model: str = parameter(
        "ViT-B-16", "open_clip name, local-dir:PATH, hf-hub:ORG/NAME, or demo.", panel=ENCODER, places=("demo",)
    )
    pretrained: str | None = parameter(
        None,
        "open_clip tag, or a safetensors weights file.",
        unset="openai, or the model's own weights",
        panel=ENCODER,
        places=("openai",),
    )
    template: list[str] | None = parameter(
        None, "Prompt with {} for the class name; repeatable.", unset="This is a photo of a {}", panel=ENCODER
    )
    templates: str | None = parameter(
        None, "'openai' (CLIP's ImageNet templates) or a file with one template per line.", panel=ENCODER, places=("openai",)
    )
    allow_truncation: bool = parameter(False, "Accept prompts longer than the tokenizer's context.", panel=ENCODER)
    device: str = parameter("auto", DEVICES, panel=ENCODER)

    def __post_init__(self) -> None:
        for option, value in (
            ("model", self.model),
            ("pretrained", self.pretrained or ""),
            *(("template", one) for one in self.template or ()),
        ):
            if not is_text(value):
                raise UsageError(f"--{option} '{value}' is not UTF-8, and the anchors record it", "write or rename it in UTF-8")

    def files(self) -> list[options.Place]:
        """The files that may be read."""
        return [("--templates", self.templates), ("--pretrained", self.pretrained)]

    def anchors(self, console: Console, names: list[str], groups: ClassGroups, described: Described | None) -> AnchorSet:
        """Encode the names, or their descriptions. Raises UsageError, InputError and MissingError."""
        from stages.anchors.encoder import DEFAULT_TAG, load_encoder
        from stages.anchors.sources import resolve_templates
        from stages.clip_weights import includes_weights

        prompts = resolve_templates(self.template or [], self.templates)
        tag = self.pretrained or ("" if includes_weights(self.model) else DEFAULT_TAG)
        console.note(f"loading {self.model}" + (f" ({tag})" if tag else ""))
        from stages.anchors.sources import text_anchors
        from stages.devices import resolve_device

        encoder = load_encoder(self.model, self.pretrained, resolve_device(self.device))
        with console.progress("encode") as bar:
            if described is not None:
                from stages.anchors.descriptions import description_anchors

                cut = self.allow_truncation
                return description_anchors(described, groups, encoder, allow_truncation=cut, progress=bar.update)
            return text_anchors(names, groups, encoder, prompts, allow_truncation=self.allow_truncation, progress=bar.update)


def anchors(
    console: Console,
    context: typer.Context,
    class_names: ClassNames,
    encoding: Encoding,
    description_options: DescriptionOptions,
    source: Source = parameter(Source.text, "text, or anchors without language: simplex (MMC) or random."),
    features: str | None = parameter(
        None,
        "Import text features (C, D) from FILE.npy, FILE.safetensors or FILE:TENSOR: a row for each class, in order. Metadata "
        "'classes', a JSON list, in the header of a safetensors file names the rows, which then can be in any order.",
        places=(),
    ),
    logit_scale: float | None = parameter(
        None,
        "What the text tower of --features multiplies cosines with, 100 for CLIP; recorded for `laat train`.",
        at_least=1 / MOST_SCALE,
        at_most=MOST_SCALE,
    ),
    like: Path | None = parameter(
        None, "Encode the names with the encoder, the prompts and the expansion of these anchors or this checkpoint."
    ),
    dim: int = parameter(512, "Width of simplex and random anchors.", at_least=1, below=2**20),
    seed: int = options.seed(),
    output: Path = parameter(Path("anchors.st"), options.OUTPUT_FILE, short=("-o",)),
) -> None:
    """Encode class names with a CLIP text tower into unit anchors."""
    console.stdout_taken = str(output) == STDIO
    described_in = ("--descriptions", description_options.descriptions)
    read = [*class_names.files(), *encoding.files(), *_feature_files(features), ("--like", like), described_in]
    options.check_places(context, [("--output", output)], read)
    _refuse_without_effect(context, class_names, description_options, source, features, like)
    names, groups = class_names.read(console)
    described = description_options.read(console, names, seed)
    if like is not None:
        made = _anchors_like(console, names, like, encoding.device, described)
    elif features is not None:
        from stages.anchors.sources import imported_anchors

        made = imported_anchors(names, groups, features, logit_scale)
    elif source is not Source.text:
        from stages.anchors.sources import constructed_anchors

        made = constructed_anchors(names, groups, source.value, dim, seed)
    else:
        made = encoding.anchors(console, names, groups, described)
    simplex = made.origin["source"] == Source.simplex.value
    figures = simplex_figures(len(names)) if simplex else measure_cosines(console, made.vectors)
    written = artifacts.write(made.to_artifact(), output)
    _show(console, made, figures, output, written.sha256, described)


def _anchors_like(console: Console, names: list[str], like: Path, device: str, described: Described | None) -> AnchorSet:
    """The names in the space of other anchors, in their groups; the others are novel. Raises InputError and MissingError."""
    artifact, others = read_like(like)
    from stages.anchors.descriptions import SOURCE as DESCRIPTIONS
    from stages.anchors.parts import encoders_of, leaves
    from stages.devices import resolve_device
    from stages.models.new_anchors import anchors_for_names, no_encoder

    whose, fix = f"--like {like}: its", _instead_of_like(others, like)
    uses_descriptions = any(leaf.get("source") == DESCRIPTIONS for leaf in leaves(others.origin))
    if described is not None and not uses_descriptions:
        raise UsageError(f"--descriptions cannot be combined with --like {like}: its anchors come from no descriptions", fix)
    if described is None and no_encoder(others.origin, described=True) is None and uses_descriptions:
        fix = "add --descriptions FILE.json, with sentences for each of these names"
    if (refused := no_encoder(others.origin, whose, fix, described=described is not None)) is not None:
        raise refused
    warn_other_number(console, described, leaves(others.origin), like)
    console.note(f"loading {encoders_of(others.origin)}")
    made = anchors_for_names(others, names, resolve_device(device), "the names", whose, fix, described)
    return replace(made, inputs={"like": artifact.lineage(), **({} if described is None else described.lineage())})


def _instead_of_like(others: AnchorSet, like: Path) -> str:
    """What to type where names cannot be encoded like the anchors at `like`."""
    from stages.models.new_anchors import NO_LANGUAGE

    if others.origin.get("source") in (Source.simplex, Source.random):
        return NO_LANGUAGE
    fix, made = "leave --like out, and name a text encoder with --model and --pretrained", "anchors.st"
    if others.parts:
        fix, made = "make anchors of the names from each source, and merge them with `laat merge` as these were", "merged.st"
    elif others.origin.get("source") == "features":
        fix = "leave --like out, and import features of the names from the same encoder with --features"
    return f"{fix}; then `laat expand {made} --like {like}`" if others.expansion is not None else fix


def _refuse_without_effect(
    context: typer.Context,
    class_names: ClassNames,
    descriptions: DescriptionOptions,
    source: Source,
    features: str | None,
    like: Path | None,
) -> None:
    """Raise UsageError for options of another source of names or anchors than the one that is used."""
    if features is None:
        options.refuse_without(context, ("logit_scale",), "--features", "leave it out, a text encoder's own is recorded")
    if class_names.data is None:
        options.refuse_given(context, ("label_column", "layout"), "--classes" if class_names.names is None else "--names")
    sampled = descriptions.per_class is not None
    if descriptions.descriptions is None:
        options.refuse_without(context, ("per_class",), "--descriptions", "add --descriptions FILE.json")
    else:
        whole = "leave it out: the sentences of the file are whole prompts, write others into it"
        options.refuse_given(context, ("template", "templates"), "--descriptions", whole)
        options.refuse_given(context, ("source", "features"), "--descriptions")
    encoder = [name for name in options.option_names(Encoding) if name != "device"]
    seed = () if sampled else ("seed",)
    if like is not None:
        groups = ("seen", "val", "seen_file", "val_file")
        options.refuse_given(context, ("source", "features", "dim", *seed, *groups, *encoder), "--like")
        return
    if features is not None:
        options.refuse_given(context, ("source",), "--features")
    used = f"--source {source.value}" if features is None else "--features"
    if descriptions.descriptions is not None:
        options.refuse_without(context, seed, "--per-class", "add --per-class N, or leave it out")
    elif used != "--source random":
        options.refuse_given(context, ("seed",), used)
    if used == "--source text":
        options.refuse_given(context, ("dim",), used, "add --source random or --source simplex")
        return
    options.refuse_given(context, encoder if features is None else ["dim", *encoder], used)


def _feature_files(features: str | None) -> list[options.Place]:
    if features is None:
        return []
    from stages.anchors.features import split_spec

    return [("--features", split_spec(features)[0])]


def _show(
    console: Console, made: AnchorSet, figures: CosineFigures, output: Path, sha256: str, described: Described | None
) -> None:
    counts = {group: len(made.indices(group)) for group in ("seen", "val", "novel")}
    console.result(
        {
            "output": str(output),
            "sha256": sha256,
            "classes": len(made.classes),
            "groups": counts,
            "width": made.vectors.shape[1],
            "origin": made.origin,
            "cosines": figures.to_record(),
            **near_duplicates(made.classes, figures),
            **description_counts(described),
        }
    )
    console.line(
        f"{output}: {counted(len(made.classes), 'anchor')} of width {made.vectors.shape[1]} "
        f"({counts['seen']} seen, {counts['val']} val, {counts['novel']} novel)"
    )
    show_counts(console, described)
    show_cosines(console, [("", figures)])
    warn_near_duplicates(console, made.classes, figures)
