"""`laat predict`: a model and unlabelled images in, an answer for each image out."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from laatcli import options
from laatcli.console import Console
from laatcli.inputs import load_classifier
from laatcli.predictions import Answers
from stages.attacks.suites import DEFAULT_SUITE, Suite, find_suite
from stages.conditions import ModelUnderAttack
from stages.data.request import DecodeOptions
from stages.data.unlabelled import ImagePaths
from stages.errors import UsageError
from stages.exchange.model_request import ModelRequest
from stages.files.reading import STDIO
from stages.parameters import parameter, same_parameter
from stages.prediction.files import check_suffix
from stages.prediction.places import SAVE_ATTACKED, SORT_INTO, check_attacked_place, check_folder, is_sheet
from stages.prediction.sort_files import SortedCopies
from stages.threat import ThreatModel

EXAMPLES = (
    "laat predict run/model.st photos --top 5",
    'laat predict run/model.st photos/*.jpg --names "okapi,pagoda,abacus" -o predictions.csv',
    "find photos -name '*.png' | laat predict run/model.st - --sort-into sorted",
    "laat predict run/model.st photos --robust-to 8/255 --save-attacked attacked",
)
IMAGES = "Image files, folders, patterns, or - for a list of paths on standard input."
SHEET = "a folder for a picture of each image, or FILE.png for a single picture of the first 6"


@dataclass(frozen=True)
class Attacks:
    """The attacks on answers."""

    robust_to: str | None = parameter(
        None,
        "Attack each answer within this eps, for example 8/255: whether it stands, and the smallest of eps, eps/2, eps/4 and "
        "eps/8 at which it falls. An upper bound on its robustness: a stronger attack may change what stands.",
        panel=options.ATTACKS,
    )
    suite: str = parameter(DEFAULT_SUITE, "The attacks; `laat suites` lists them.", panel=options.ATTACKS)
    norm: str = same_parameter(ThreatModel, "norm")
    eot: int = same_parameter(ModelUnderAttack, "eot")
    save_attacked: Path | None = parameter(
        None,
        f"Save the clean image, the attacked one and 16 times their difference side by side, with both answers: {SHEET}. "
        "Attacked within --robust-to, else 8/255 in linf and 128/255 in l2.",
        panel=options.OUTPUT,
    )

    @property
    def threat(self) -> ThreatModel | None:
        """The threat model with the largest eps; None without attacks. Raises UsageError for an eps of 0."""
        if self.robust_to is None and self.save_attacked is None:
            return None
        threat = ThreatModel(self.robust_to, self.norm)
        if not threat.eps:
            raise UsageError("--robust-to is 0, which changes no image", "give an eps above 0, for example 8/255")
        return threat

    def named(self, threat: ThreatModel) -> Suite:
        """The suite. Raises UsageError for one that is unknown or does not fit the threat model."""
        suite = find_suite(self.suite)
        suite.check_fits(threat)
        return suite


def predict(
    console: Console,
    context: typer.Context,
    model: options.Model,
    files: Annotated[list[str], typer.Argument(metavar="FILES", help=IMAGES, show_default=False)],
    request: ModelRequest,
    decoding: DecodeOptions,
    attacks: Attacks,
    computing: options.Computing,
    classes_from: str | None = parameter(
        None,
        f"{options.CLASSES_FROM}, of those that the model knows.",
        unset="all",
        panel=options.CLASSES,
        places=options.GROUPS,
    ),
    null: bool = parameter(
        False, "The paths on standard input end with a null byte, as of `find -print0`.", short=("-0",), panel="Images"
    ),
    top: int = parameter(1, "Number of classes to give for each image, the most probable first.", at_least=1),
    sort_into: Path | None = parameter(
        None, "Copy each image into a folder per class in this folder; nothing is moved or replaced.", panel=options.OUTPUT
    ),
    force: bool = parameter(
        False, "Write into a folder of --sort-into or --save-attacked that is not empty.", panel=options.OUTPUT
    ),
    output: Path | None = parameter(
        None,
        "Write the answers to this file instead: .csv, .jsonl or .parquet; - is CSV on standard output.",
        short=("-o",),
        panel=options.OUTPUT,
    ),
) -> None:
    """Name the class of each unlabelled image, and how sure the model is.

    One line per image: path, class, confidence (probability of the class among
    the candidates) and margin (difference of the two largest probabilities).
    Columns in percent on a terminal; elsewhere fractions of 1, separated by tabs.
    Images of any size are resized so that the shorter side fits the model, and
    cropped at the centre. An image that cannot be read is named on standard
    error and counted; the exit code is 3 if none can be read.
    """
    if str(output) == STDIO and console.as_json:
        raise UsageError("-o - is CSV on standard output, and --json is JSON there", "leave one of them out")
    if console.quiet and not (console.as_json or output or sort_into or attacks.save_attacked):
        raise UsageError("--quiet prints no answers", "leave it out, or add -o FILE")
    console.stdout_taken = str(output) == STDIO
    threat = attacks.threat
    suite = None if threat is None else attacks.named(threat)
    if threat is None:
        options.refuse_without(context, ("suite", "norm"), "an attack", "add --robust-to 8/255 or --save-attacked DIR")
    _check_outputs(context, model, request, files, output, attacks.save_attacked, sort_into, force=force)
    paths = ImagePaths(files, sys.stdin.buffer if STDIO in files else None, null=null)
    opened = load_classifier(console, model, request)
    from stages.devices import resolve_device
    from stages.evaluation.groups import candidates
    from stages.models.embedding import place
    from stages.models.wrapped import mean_of_draws
    from stages.prediction.predict import answering, decoding_for, predict_batches

    classifier = opened.classifier
    if classes_from is not None:
        classifier = classifier.over(candidates([classifier], [classes_from])[0].classes)
    classifier = mean_of_draws(answering(classifier), attacks.eot, computing.seed)
    if suite is not None:
        suite.check_fits(threat, len(classifier.classes))
    how = decoding_for(classifier, decoding)
    place(classifier, resolve_device(computing.device))
    attack = None
    if threat is not None and suite is not None:
        from stages.prediction.robustness import Attack

        attack = Attack(suite.specs(), threat, computing.seed, computing.batch_size)
    with Answers(console, classifier, attack, judge=attacks.robust_to is not None) as answers:
        answers.open(output, top)
        if sort_into is not None:
            answers.copies = SortedCopies(sort_into, classifier.classes, force=force)
        if attacks.save_attacked is not None and threat is not None:
            from stages.prediction.saved_attacks import AttackedPictures

            answers.pictures = AttackedPictures(attacks.save_attacked, threat)
        for batch in predict_batches(classifier, paths, how, top=top, batch_size=computing.batch_size):
            answers.take(batch, paths.expected)
    answers.report(paths.passed_over, {"suite": suite and suite.label, "threat": threat and threat.to_record()}, output)


def _check_outputs(
    context: typer.Context,
    model: str,
    request: ModelRequest,
    files: list[str],
    output: Path | None,
    save_attacked: Path | None,
    sort_into: Path | None,
    *,
    force: bool,
) -> None:
    """Refuse places that cannot be written, that are not empty, or that the command reads, before anything is loaded."""
    outputs: list[options.Place] = []
    folders = [] if sort_into is None else [(SORT_INTO, sort_into)]
    if output is not None:
        check_suffix(output)
        outputs.append(("--output", output))
    if save_attacked is not None:
        check_attacked_place(save_attacked, force=force)
        (outputs if is_sheet(save_attacked) else folders).append((SAVE_ATTACKED, save_attacked))
    if sort_into is not None:
        check_folder(sort_into, SORT_INTO, force=force)
    written = {os.path.basename(path) for _, path in outputs if path is not None}
    inputs: list[options.Place] = [("MODEL", model), *request.files]
    inputs += [("FILES", file) for file in files if os.path.basename(file) in written]
    options.check_places(context, outputs, inputs)
    for option, folder in folders:
        place = Path(os.path.realpath(folder))
        for file in files:
            read = Path(os.path.realpath(file))
            if file != STDIO and read.is_dir() and (place.is_relative_to(read) or read.is_relative_to(place)):
                raise UsageError(f"{option} '{folder}' and the images in '{file}' overlap", "choose a folder elsewhere")
    if len(folders) == 2 and len({os.path.realpath(folder) for _, folder in folders}) == 1:
        raise UsageError(f"{SORT_INTO} and {SAVE_ATTACKED} name the same folder", "name two folders")
