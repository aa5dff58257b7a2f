"""`laat demo`: run the whole pipeline on bundled data with a bundled encoder, and print every command."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable
from pathlib import Path

import typer

from laatcli import options
from laatcli.config_file import file_read
from laatcli.console import Console
from stages.files import artifacts
from stages.files.reading import read_file
from stages.files.writing import check_writable
from stages.parameters import parameter

EXAMPLES = ("laat demo", "laat demo --out /tmp/demo --epochs 2")
EPOCHS, STEPS = 3, 6
PICTURES = 6  # images in the last picture


def demo_command(app: typer.Typer) -> Callable[..., None]:
    """Build the command; its command lines run through `app`, with the parser that a shell would use."""

    def demo(
        console: Console,
        context: typer.Context,
        out: Path = parameter(Path("demo"), "Output folder."),
        epochs: int = parameter(EPOCHS, "Number of training epochs of each of the three models.", at_least=1),
        seed: int = options.seed(),
        device: options.Device = "auto",
    ) -> None:
        """Run the whole pipeline on bundled data and compare standard training with LAAT on raw and expanded anchors."""
        check_writable(out / "report.json")
        start = time.monotonic()
        plan = list(commands(out, epochs, seed, device))
        settings = file_read(context)
        for number, title, line in plan:
            if title:
                console.note()
                console.note(f"[{number}/{STEPS}] {title}")
            if number == STEPS:
                write_pictures(out)
            console.note(f"$ {line}")
            _run(app, line, console, settings)
        minutes = (time.monotonic() - start) / 60
        report = json.loads(read_file(out / "report.json"))
        console.result({**report, "minutes": round(minutes, 2)})
        console.note()
        console.note(f"{minutes:.1f} minutes; results are in {out}, plots in {out / 'report.png'} and {out / 'cosines.png'}")
        console.note(f"{out / 'attacked.png'}: images of classes that were never trained on, before and after an attack")

    return demo


def commands(out: Path, epochs: int, seed: int, device: str) -> list[tuple[int, str, str]]:
    """The command lines: number of the stage, its title (empty if unchanged), and the line as typed in a shell."""
    here = shlex.quote(str(out))
    extra = "".join([f" --seed {seed}" if seed else "", f" --device {device}" if device != "auto" else ""])
    train = f"--recipe shapes-demo --data shapes --epochs {epochs}{extra} --force"
    models = f"{here}/undefended/model.st {here}/laat-raw/model.st {here}/laat-expanded/model.st"
    place = f" --device {device}" if device != "auto" else ""
    return [
        (1, "class names to anchors", f"laat anchors --classes shapes --model demo{place} -o {here}/anchors.st"),
        (2, "expand the anchors", f"laat expand {here}/anchors.st -o {here}/expanded.st --plot {here}/cosines.png"),
        (3, "train three models, all with tau 0.1: without attack, LAAT on raw anchors, LAAT on expanded anchors",
         f"laat train --anchors {here}/expanded.st --objective clean {train} --out {here}/undefended"),
        (3, "", f"laat train --anchors {here}/anchors.st {train} --out {here}/laat-raw"),
        (3, "", f"laat train --anchors {here}/expanded.st {train} --out {here}/laat-expanded"),
        (4, "attack images of novel classes",
         f"laat attack {here}/laat-expanded/model.st --data shapes --attack pgd-20{extra} --force -o {here}/adversarial.st"),
        (5, "clean and robust accuracy on the novel classes",
         f"laat eval {models} --data shapes --classes-from novel "
         f"--attack pgd-20 --attack margin-pgd-20{extra} --force "
         f"--plot {here}/report.png -o {here}/report.json"),
        (6, f"name {PICTURES} images of novel classes, all of them right, and attack these answers",
         f"laat predict {here}/laat-expanded/model.st {here}/pictures --classes-from novel --top 2 "
         f"--robust-to 8/255{extra} --save-attacked {here}/attacked.png"),
    ]  # fmt: skip


def write_pictures(out: Path) -> None:
    """Write images of novel classes, of those that `laat attack` attacked, that the expanded model names correctly."""
    from stages.attacks.adversarial import KIND, AdversarialSet, write_correct_images

    path = out / "adversarial.st"
    write_correct_images(AdversarialSet.from_artifact(artifacts.read(path, KIND), f"'{path}'"), out / "pictures", PICTURES)


def _run(app: typer.Typer, line: str, console: Console, settings: str | None) -> None:
    """Run one command line in this process, with the file of settings of the demo."""
    words = [*(["--config", settings] if settings else []), *shlex.split(line)[1:]]
    if not console.human:
        words.append("--quiet")
    code = app(words, prog_name="laat", standalone_mode=False)
    if code:
        raise typer.Exit(int(code))
