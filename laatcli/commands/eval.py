"""`laat eval`: checkpoints and images in, a table and report.json out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from laatcli import options
from laatcli.console import Console
from laatcli.evaluation import AttackChoice, check_together, read_protocol
from laatcli.inputs import load_classifiers, load_group_images
from laatcli.reporting import Format, Output, check_format, end, hold_to, rows_place, up_to_date, working, write_report
from stages.conditions import ModelUnderAttack
from stages.data.request import ImageRequest
from stages.errors import UsageError
from stages.evaluation.protocol import PROTOCOL, Protocol
from stages.evaluation.sample import Sample
from stages.exchange.model_request import ModelRequest
from stages.files import artifacts
from stages.files.reading import STDIO
from stages.launch import read_launch
from stages.parameters import parameter
from stages.reports.episode_file import episodes_path
from stages.reports.figures import check_picture
from stages.threat import ThreatModel

if TYPE_CHECKING:
    from stages.attacks.adversarial import AdversarialSet
    from stages.evaluation.evaluate import Evaluation
    from stages.identity import Identity
    from stages.models.classifier import Classifier

EXAMPLES = (
    "laat eval run/model.st --data shapes",
    "laat eval run/model.st --data photos --protocol episodes --ways 5 --episodes 500 --attack pgd-20 -o report.json",
)


def evaluate(
    console: Console,
    context: typer.Context,
    models: Annotated[list[str], typer.Argument(metavar="MODEL", help=options.MODELS, show_default=False)],
    model_request: ModelRequest,
    request: ImageRequest,
    sample: Sample,
    protocol: Protocol,
    attacks: AttackChoice,
    threat: ThreatModel,
    under: ModelUnderAttack,
    computing: options.Computing,
    plotting: options.Plotting,
    classes_from: list[str] | None = parameter(
        None, f"{options.CLASSES_FROM}; repeatable.", unset=options.CLASSES_UNSET, panel=options.CLASSES, places=options.GROUPS
    ),
    shots: str = parameter(
        "0", "Support images per class; 0 is zero-shot, from the names alone. 0,1,5 gives a row each.", panel=PROTOCOL
    ),
    calibration_error: bool = parameter(
        False, "Note how far confidence is from accuracy on clean images: expected calibration error, 15 bins.", panel=PROTOCOL
    ),
    replay: Path | None = parameter(None, "Reuse the episodes saved with a report.", panel=PROTOCOL),
    output: Path = parameter(Path("report.json"), options.OUTPUT_FILE, short=("-o",), panel=options.OUTPUT),
    rows: Path | None = parameter(
        None,
        "Parquet file, one row per sample and attack; or none.",
        unset="report.rows.parquet beside the report",
        panel=options.OUTPUT,
    ),
    plot: Path | None = parameter(
        None, "Plot the results, or with gzsl the seen-unseen curves, to this .png, .svg or .pdf file.", panel=options.OUTPUT
    ),
    force: bool = parameter(
        False,
        "Evaluate again and replace the report, even if it is of other models, images or parameters.",
        panel=options.OUTPUT,
    ),
    require: list[str] | None = parameter(
        None,
        "Exit with 6, after writing the report, unless every model and group meets this, in percent: worst>=30, clean>=60, "
        "pgd-20>=35, lower bound of worst>=28; with gzsl also worst H>=10. Results at the fitted bias count only for "
        "'worst at the bias>=30', 'worst H at the bias>=10'. Repeatable.",
        panel=options.OUTPUT,
    ),
    form: Format = "table",
) -> None:
    """Measure clean and robust accuracy with 95 % intervals, by default on novel classes.

    Verdicts: above chance; at chance; collapsed (below chance, or one class for all images); too few images to tell.
    """
    launch = read_launch()
    console.stdout_taken = str(output) == STDIO
    specs = attacks.specs()
    asked = read_protocol(context, protocol, shots, replay)
    attacks.check_fits(threat, asked.ways)
    check_together(context, asked, attacks, classes_from=classes_from, require=require)
    if calibration_error and (attacks.adversarial is not None or asked.protocol.name == "episodes"):
        raise UsageError("--calibration-error is for the protocols all-way and gzsl", "leave it out")
    check_format(form, console)
    rows_file = rows_place(rows, output)
    episodes_file = None if rows_file is None else episodes_path(rows_file)
    options.check_places(
        context,
        (("--output", output), ("--rows", rows_file), ("the file of episodes", episodes_file), ("--plot", plot)),
        (
            *(("MODEL", path) for path in models),
            ("--data", request.data),
            *model_request.files,
            ("--adversarial", attacks.adversarial),
            ("--replay", replay),
            *(("--classes-from", name) for name in classes_from or ()),
        ),
    )
    if plot is None:
        options.refuse_without(context, ("plot_size",), "a plot", "add --plot FILE")
    else:
        check_picture(plot)
    if len({Path(spec).resolve() for spec in models}) < len(models):
        raise UsageError("a model is given twice", "name each model once")
    given = None if attacks.adversarial is None else _read_saved(attacks.adversarial, require or ())
    opened = load_classifiers(console, models, model_request, () if given is None else given.saved.classes)
    from stages.devices import resolve_device
    from stages.evaluation.evaluate import evaluate_classifiers
    from stages.evaluation.task import Task
    from stages.models.wrapped import resize_inside

    classifiers = {name: resize_inside(one.classifier, under.resize_inside, name) for name, one in opened.items()}
    place = resolve_device(computing.device, launch)
    with working(console, output, place, launch) as chunks:
        if given is not None:
            lineages = {name: one.lineage for name, one in opened.items()}
            identity, run = _on_saved(classifiers, lineages, given, attacks.knowledge, under.eot, computing, place)
        else:
            groups: list[str | None] = [*(classes_from or asked.groups)] or [model_request.group]
            choices, images = load_group_images(console, list(classifiers.values()), groups, request, gzsl=asked.gzsl)
            if asked.ways is None:
                attacks.check_fits(threat, min(len(choice.classes) for choice in choices))
            task = Task(
                classifiers,
                choices,
                images,
                asked.protocol,
                specs,
                threat,
                seed=computing.seed,
                suite=attacks.named.label if attacks.named else None,
                shots=asked.sweep,
                sample=replace(sample, seed=computing.seed),
                checks=attacks.checks,
                calibration_error=calibration_error,
                replay=asked.replay,
                eot=under.eot,
                batch_size=computing.batch_size,
            )
            task.check()
            identity = task.identity
            run = partial(evaluate_classifiers, task, device=place, chunks=chunks)
        episodes_file = episodes_file if asked.protocol.name == "episodes" else None
        written = Output(output, rows_file, episodes_file, plot, plotting.plot_size, form)
        there, report = (False, None) if force else up_to_date(console, chunks.world, written, identity)
        if not there:
            with console.progress("eval") as bar:
                done = run(progress=bar.update)
            report = done.report
            end(console, chunks, partial(write_report, console, done, written, force=force))
        if report is not None:
            hold_to(console, report, strict_checks=attacks.strict_checks, required=require or ())


@dataclass(frozen=True)
class _SavedFile:
    """The adversarial images in a file, its lineage, and its name in errors."""

    saved: AdversarialSet
    lineage: dict[str, Any]
    where: str


def _read_saved(path: Path, required: Sequence[str]) -> _SavedFile:
    """Read adversarial images. Raises InputError, and UsageError for requirements on other attacks than theirs."""
    from stages.attacks.adversarial import KIND, AdversarialSet
    from stages.evaluation.saved_images import saved_name
    from stages.reports.requirements import parse_requirements

    artifact, where = artifacts.read(path, KIND), f"'{path}'"
    saved = AdversarialSet.from_artifact(artifact, where)
    parse_requirements(required, [saved_name(saved)])
    return _SavedFile(saved, artifact.lineage(), where)


def _on_saved(
    classifiers: Mapping[str, Classifier],
    lineages: Mapping[str, Mapping[str, Any]],
    given: _SavedFile,
    knowledge: str | None,
    eot: int,
    computing: options.Computing,
    device: str,
) -> tuple[Identity, Callable[..., Evaluation]]:
    """The evaluation of the classifiers on the adversarial images in a file: its identity, and what runs it."""
    from stages.evaluation.saved_images import evaluate_saved, saved_identity

    how: dict[str, Any] = {
        "knowledge": knowledge,
        "eot": eot,
        "seed": computing.seed,
        "batch_size": computing.batch_size,
    }
    run = partial(
        evaluate_saved, classifiers, given.saved, given.lineage, where=given.where, lineages=lineages, device=device, **how
    )
    return saved_identity(classifiers, given.lineage, **how), run
