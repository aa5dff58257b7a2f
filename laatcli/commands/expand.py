"""`laat expand`: anchors.st in, expanded.st out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from laatcli import options
from laatcli.console import Console
from laatcli.cosines import near_duplicates, show_cosines, warn_near_duplicates
from laatcli.inputs import read_like
from stages.anchors.anchor_set import KIND, AnchorSet
from stages.anchors.expanded import ExpansionFigures, expand_anchors
from stages.cosines import RANKED_CLASSES
from stages.errors import UsageError
from stages.expand.methods import ExpandSettings
from stages.files import artifacts
from stages.files.reading import STDIO
from stages.parameters import parameter
from stages.reports.figures import check_picture

EXAMPLES = (
    "laat expand anchors.st",
    "laat expand anchors.st --method whiten --components 32 -o whitened.st",
    "laat anchors --classes shapes --model demo -o - | laat expand - -o expanded.st",
)

_LITTLE = 0.01  # a share of an anchor that the user should hear of


def expand(
    console: Console,
    context: typer.Context,
    anchors: Annotated[Path, typer.Argument(help="Anchors to expand; - is standard input.", show_default=False)],
    fitting: ExpandSettings,
    plotting: options.Plotting,
    output: Path = parameter(Path("expanded.st"), options.OUTPUT_FILE, short=("-o",), panel=options.OUTPUT),
    like: Path | None = parameter(None, "Apply the map of these expanded anchors, or of a checkpoint, instead of fitting one."),
    plot: Path | None = parameter(None, "Plot both cosine matrices to this .png, .svg or .pdf file.", panel=options.OUTPUT),
) -> None:
    """Spread crowded anchors apart with a map that is fitted on the seen classes only."""
    console.stdout_taken = str(output) == STDIO
    if like is not None:
        options.refuse_given(context, options.option_names(ExpandSettings), "--like", "the map is that of the other anchors")
    options.check_places(context, [("--output", output), ("--plot", plot)], [("ANCHORS", anchors), ("--like", like)])
    if plot is None:
        options.refuse_without(context, ("plot_size",), "a plot", "add --plot FILE")
    else:
        if str(plot) == STDIO:
            raise UsageError("--plot cannot be standard output", "name a file")
        check_picture(plot)
    source = artifacts.read(anchors, KIND)
    before = AnchorSet.from_artifact(source, f"'{anchors}'")
    inputs = {"anchors": source.lineage()}
    fitted = None
    if like is not None:
        other, fitted = read_like(like)
        inputs["like"] = other.lineage()
    with console.progress("cosines") as bar:
        after, figures = expand_anchors(before, fitted, bar.update, None if like is not None else fitting)
    if plot is not None:
        from stages.reports.plots import plot_cosines

        plot_cosines(before, after, plot, plotting.plot_size)
    artifact = after.to_artifact()
    written = artifacts.write(
        artifacts.Artifact(artifact.kind, artifact.tensors, artifact.params, inputs, artifact.tool), output
    )
    _show(console, after.classes, figures, output, written.sha256, plot)


def _show(
    console: Console, classes: Sequence[str], figures: ExpansionFigures, output: Path, sha256: str, plot: Path | None
) -> None:
    near = near_duplicates(classes, figures.after)
    record = {"output": str(output), "sha256": sha256, **figures.to_record(), **near}
    console.result(record if plot is None else {**record, "plot": str(plot)})
    show_cosines(console, [("before", figures.before), ("after", figures.after)])
    if figures.spearman:
        console.line(f"Spearman correlation with the cosines before{_sampled(figures)}: {_correlations(figures.spearman)}")
    if figures.kept:
        low, mean, high = (f"{100 * share:.0f} %" for share in figures.kept_range().values())
        console.line(
            f"kept of the squared distance to the mean, of classes that the map was not fitted on: {mean} ({low} to {high})"
        )
    console.line(f"{output}: {_summary(figures)}")
    _warn(console, figures)
    warn_near_duplicates(console, classes, figures.after)


def _warn(console: Console, figures: ExpansionFigures) -> None:
    if figures.flat:
        fix = ". A larger --shrinkage or fewer --components keep some of it" if figures.fitted.method == "whiten" else ""
        console.warn(f"the cosines of the seen classes are all the same: nothing is left of how similar their names are{fix}")
    outside = [
        f"'{name}' lies outside the fitted cone: {angle:.1f}° from the centre after the map{_beyond(angle)}"
        for name, angle in figures.outside
    ]
    console.warn_each(outside, len(outside))
    dropped = [
        f"'{name}' keeps {share:.1%} of its squared distance to the mean"
        for name, share in figures.kept.items()
        if share < _LITTLE
    ]
    console.warn_each(dropped, len(dropped))


def _sampled(figures: ExpansionFigures) -> str:
    return f" (at most {RANKED_CLASSES:,} classes of each group, evenly spaced)" if figures.classes > RANKED_CLASSES else ""


def _correlations(found: Mapping[str, float | None]) -> str:
    """The figure of each group of classes: "all 0.980, seen 1.000, unseen undefined"."""
    return ", ".join(f"{name} {'undefined' if one is None else f'{one:.3f}'}" for name, one in found.items())


def _summary(figures: ExpansionFigures) -> str:
    if (cone := figures.fitted.cone()) is None:
        return f"anchors, {figures.fitted.label}"
    before, after = cone
    changed = "grew" if after >= before else "shrank"
    return f"the largest angle of a seen anchor to the centre {changed} from {before:.2f}° to {after:g}°"


def _beyond(angle: float) -> str:
    return ", past the point opposite to it" if angle > 180 else ""
