"""`laat eval`: checkpoints and images in, a table and report.json out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from laatcli import options
from laatcli.console import Console
from laatcli.formats import Format, check_format
from laatcli.inputs import load_classifier, load_group_images
from laatcli.protocols import check_together, read_protocol, refuse_beside_adversarial, replayed, with_named_classes
from laatcli.reporting import end, rows_place, working, write_report
from stages import artifacts
from stages.attacks.named import check_fits, parse_attacks
from stages.attacks.spec import AttackSpec
from stages.attacks.suites import DEFAULT_SUITE, find_suite
from stages.data.request import IMAGES, ImageRequest
from stages.devices import check_device_name
from stages.errors import ComputeError, UsageError, require_at_least
from stages.evaluation.protocol import Protocol
from stages.evaluation.sample import Sample
from stages.launch import read_launch
from stages.reports.episode_file import episodes_path
from stages.threat import ThreatModel

if TYPE_CHECKING:
    from stages.evaluation.evaluate import Evaluation
    from stages.models.classifier import Classifier

EXAMPLES = (
    "laat eval run/model.st --data shapes",
    "laat eval run/model.st --data photos --protocol episodes --ways 5 --episodes 500 --attack pgd-20 -o report.json",
)


def evaluate(
    console: Console,
    context: typer.Context,
    models: Annotated[list[Path], typer.Argument(metavar="MODEL", help="Checkpoints, run/model.st.", show_default=False)],
    request: ImageRequest,
    classes_from: Annotated[
        list[str] | None,
        typer.Option(
            help="novel, seen, val, all or a file of names; repeatable. Default: novel if there are any, else seen.",
            rich_help_panel=options.CLASSES,
        ),
    ] = None,
    anchors: options.OtherAnchors = None,
    classes: Annotated[
        str | None,
        typer.Option(
            help="File of class names of other data, to be encoded and expanded as the training anchors were.",
            rich_help_panel=options.CLASSES,
        ),
    ] = None,
    protocol: Annotated[
        str,
        typer.Option(
            help="all-way (all classes of the group are candidates), episodes, or gzsl (seen and novel together).",
            rich_help_panel=options.PROTOCOL,
        ),
    ] = "all-way",
    ways: Annotated[int, typer.Option(help="Classes an episode.", rich_help_panel=options.PROTOCOL)] = 5,
    shots: Annotated[
        str,
        typer.Option(
            help="Support images a class; 0 is zero-shot, from the names alone. 0,1,5 is a row each.",
            rich_help_panel=options.PROTOCOL,
        ),
    ] = "0",
    blend: Annotated[
        float,
        typer.Option(
            help="Weight of the name's anchor beside K shots of weight 1; 0 is images alone, 2 as published.",
            rich_help_panel=options.PROTOCOL,
        ),
    ] = 0.0,
    queries: Annotated[int, typer.Option(help="Query images a class and episode.", rich_help_panel=options.PROTOCOL)] = 20,
    episodes: Annotated[int, typer.Option(help="Number of episodes.", rich_help_panel=options.PROTOCOL)] = 2000,
    episode_seed: Annotated[
        int, typer.Option(help="The episodes follow from it, whatever the attacks.", rich_help_panel=options.PROTOCOL)
    ] = 0,
    replay: Annotated[
        Path | None,
        typer.Option(help="The very episodes of a report, from the file beside it, instead.", rich_help_panel=options.PROTOCOL),
    ] = None,
    attack: Annotated[
        list[str] | None,
        typer.Option(
            help="fgsm, pgd-N, margin-pgd-N, dlr-pgd-N, cw-linf, apgd-ce, apgd-t, fab-t, square, …, or none; repeatable. "
            "\\[default: the suite quick, pgd-20 and margin-pgd-20]",
            rich_help_panel=options.ATTACKS,
        ),
    ] = None,
    suite: Annotated[
        str | None,
        typer.Option(
            help="A named set of attacks instead, for example aa-few-class: laat suites lists them.",
            rich_help_panel=options.ATTACKS,
        ),
    ] = None,
    norm: options.Norm = "linf",
    eps: options.Eps = None,
    adversarial: Annotated[
        Path | None, typer.Option(help="Score these saved images instead of running attacks.", rich_help_panel=options.ATTACKS)
    ] = None,
    max_images: Annotated[
        int | None,
        typer.Option(help="A quick look: at most N images, drawn evenly over the classes.", rich_help_panel=IMAGES),
    ] = None,
    max_per_class: Annotated[
        int | None, typer.Option(help="A quick look: at most N images of each class.", rich_help_panel=IMAGES)
    ] = None,
    batch_size: options.BatchSize = 256,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    plot: Annotated[
        Path | None,
        typer.Option(
            help="Draw the table as bars, or with gzsl the seen-unseen curves, into this PNG.", rich_help_panel=options.OUTPUT
        ),
    ] = None,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="Where to write the report; - is standard output.", rich_help_panel=options.OUTPUT),
    ] = Path("report.json"),
    rows: Annotated[
        str | None,
        typer.Option(
            help="A row a point and attack, parquet; or none. \\[default: report.rows.parquet beside the report]",
            rich_help_panel=options.OUTPUT,
        ),
    ] = None,
    checks: Annotated[
        bool,
        typer.Option(
            "--checks/--no-checks",
            help="Check on 64 points whether the accuracies under attack can be believed.",
            rich_help_panel=options.ATTACKS,
        ),
    ] = True,
    strict_checks: Annotated[
        bool,
        typer.Option(
            "--strict-checks",
            help="Exit with 5 when a check fails, after the report is written.",
            rich_help_panel=options.ATTACKS,
        ),
    ] = False,
    form: Format = "table",
) -> None:
    """Clean and robust accuracy with 95 % intervals, on novel classes unless told otherwise."""
    launch = read_launch()
    console.stdout_taken = str(output) == artifacts.STDIO
    if suite is not None and (attack or adversarial is not None):
        raise UsageError("--suite stands beside --attack or --adversarial", "leave one of them out")
    # what is run unless told otherwise is a suite too
    named = find_suite(suite or DEFAULT_SUITE) if suite or not (attack or adversarial) else None
    specs, threat = named.specs() if named else _attacks(attack), ThreatModel(eps, norm)
    fits = named.check_fits if named else partial(check_fits, specs)
    asked = (
        read_protocol(Protocol(protocol, ways, 0, queries, episodes, episode_seed, blend), shots)
        if replay is None
        else replayed(context, replay)
    )
    how, sample = asked.protocol, Sample(max_images, max_per_class, seed)
    fits(threat, how.ways if how.name == "episodes" else None)
    if adversarial is not None:
        refuse_beside_adversarial(context)
    check_together(asked, classes_from=classes_from, classes=classes, anchors=anchors)
    if strict_checks and not checks:
        raise UsageError("--strict-checks stands beside --no-checks", "leave one of them out")
    require_at_least("--batch-size", batch_size, 1)
    check_device_name(device)
    check_format(form, console)
    rows_file = rows_place(rows, output)
    episodes_file = None if rows_file is None else episodes_path(rows_file)
    options.check_places(
        (("--output", output), ("--rows", rows_file), ("the file of episodes", episodes_file), ("--plot", plot)),
        (
            *(("MODEL", path) for path in models),
            ("--anchors", anchors),
            ("--adversarial", adversarial),
            ("--replay", replay),
            ("--classes", classes),
            *(("--classes-from", name) for name in classes_from or ()),
        ),
    )
    if len({path.resolve() for path in models}) < len(models):
        raise UsageError("a checkpoint is given twice", "name each checkpoint once")
    classifiers = {_run_name(path, models): load_classifier(path, anchors)[0] for path in models}
    from stages.devices import resolve_device
    from stages.evaluation.evaluate import evaluate_classifiers
    from stages.reports.report_tables import failed_checks

    place = resolve_device(device, launch)
    with working(console, output, place, launch) as chunks:
        if classes is not None:
            classifiers = {name: with_named_classes(console, one, classes) for name, one in classifiers.items()}
        if adversarial is not None:
            done = _on_saved(console, classifiers, adversarial, batch_size, place)
        else:
            groups: list[str | None] = [*(classes_from or asked.groups)] or [None if classes is None else "all"]
            choices, images = load_group_images(console, list(classifiers.values()), groups, request, gzsl=asked.gzsl)
            if how.name != "episodes":
                fits(threat, min(len(choice.classes) for choice in choices))
            with console.progress("eval") as bar:
                done = evaluate_classifiers(
                    classifiers,
                    choices,
                    images,
                    how,
                    specs,
                    threat,
                    seed=seed,
                    batch_size=batch_size,
                    device=place,
                    suite=named.label if named else None,
                    shots=asked.sweep,
                    sample=sample,
                    checks=checks,
                    replay=asked.replay,
                    chunks=chunks,
                    progress=bar.update,
                )
        end(console, chunks, partial(write_report, console, done, output, rows_file, plot, form))
        failed = failed_checks(done.report)
        if strict_checks and failed:
            raise ComputeError(f"checks failed: {', '.join(failed)}", "the report says why; --no-checks leaves them out")


def _on_saved(console: Console, classifiers: Mapping[str, Classifier], path: Path, batch_size: int, device: str) -> Evaluation:
    """The classifiers on the adversarial images in a file."""
    from stages.attacks.adversarial import KIND, AdversarialSet
    from stages.evaluation.saved_images import evaluate_saved

    artifact, where = artifacts.read(path, KIND), f"'{path}'"
    saved = AdversarialSet.from_artifact(artifact, where)
    with console.progress("eval") as bar:
        return evaluate_saved(
            classifiers,
            saved,
            artifact.lineage(),
            where=where,
            batch_size=batch_size,
            device=device,
            progress=bar.update,
        )


def _attacks(names: list[str] | None) -> tuple[AttackSpec, ...]:
    if names and "none" in names:
        if len(names) > 1:
            raise UsageError("--attack none stands beside another attack", "leave one of them out")
        return ()
    return parse_attacks(names or ())


def _run_name(path: Path, models: Sequence[Path]) -> str:
    """How the report calls a checkpoint: its run folder's name, its file name, or its place where those are not unique."""
    for name in (
        lambda p: p.resolve().parent.name if p.name == "model.st" else p.stem,
        lambda p: f"{p.resolve().parent.name}/{p.stem}",
    ):
        if len({name(other) for other in models}) == len(models):
            return name(path)
    return f"{models.index(path) + 1}"
