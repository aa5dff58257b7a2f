"""The grid of examples/grid: its commands are read by laat; Snakemake runs it where it is installed."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from laatcli.app import app
from tests.laatcli.shell import LAAT, environment
from tests.where import ROOT

GRID = ROOT / "examples/grid"
COMMANDS: Any = typer.main.get_command(app)
AXES = ("anchors", "objective", "seed")


def grid() -> tuple[str, dict[str, Any]]:
    return (GRID / "Snakefile").read_text(), yaml.safe_load((GRID / "config.yaml").read_text())


def commands() -> dict[str, str]:
    """The shell line of each rule."""
    rules = re.split(r"^rule (\w+):$", grid()[0], flags=re.MULTILINE)[1:]
    bodies = dict(zip(rules[::2], rules[1::2], strict=True))
    return {name: "".join(re.findall(r'"(.*?)"\n', body[body.index("    shell:") :])) for name, body in bodies.items()}


def test_laat_reads_every_command_of_the_grid() -> None:
    _, config = grid()
    assert len(list(product(*(config[axis] for axis in AXES)))) == 12
    lines = commands()
    assert lines.keys() == {"table", "raw", "expanded", "train", "evaluate"}
    options = {"raw": config["classes"], "train": config["train"], "evaluate": config["eval"]}
    for rule, line in lines.items():
        filled = line.split(" > ")[0].replace("{params.options}", options.get(rule, ""))
        name, *arguments = shlex.split(re.sub(r"\{[a-z.]+\}", "1", filled))[1:]
        COMMANDS.commands[name].make_context(name, arguments)  # raises for an option that there is not


@pytest.mark.parametrize("objective", grid()[1]["objective"])
def test_the_settings_of_a_run_fit_together(objective: str, tmp_path: Path) -> None:
    line = commands()["train"].replace("{params.options}", grid()[1]["train"]).replace("{wildcards.objective}", objective)
    arguments = shlex.split(line.replace("{wildcards.seed}", "1").replace("{input}", "raw.st").replace("{params.run}", "run"))
    COMMANDS.main([*arguments[1:], "--dry-run", "--quiet"], prog_name="laat", standalone_mode=False)


@pytest.mark.skipif(shutil.which("snakemake") is None, reason="needs Snakemake")
def test_snakemake_runs_the_grid_and_only_what_is_missing(tmp_path: Path) -> None:
    shutil.copy(GRID / "Snakefile", tmp_path)
    text = (GRID / "config.yaml").read_text().replace("[laat, at, cos]", "[at]").replace("[0, 1]", "[0]")
    (tmp_path / "config.yaml").write_text(text)

    def snakemake(*args: str) -> str:
        path = f"{LAAT.parent}:{environment(tmp_path)['PATH']}"
        known = environment(tmp_path, PATH=path, XDG_CACHE_HOME=str(tmp_path / "cache"))
        command = ["snakemake", "--cores", "1", *args]
        done = subprocess.run(command, cwd=tmp_path, env=known, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stderr

    snakemake()
    table = (tmp_path / "table.md").read_text()
    assert len(re.findall(r"^\| at +\| expanded +\| novel", table, flags=re.MULTILINE)) == 1
    assert "Nothing to be done" in snakemake()
    (tmp_path / "config.yaml").write_text(text.replace("seed: [0]", "seed: [0, 1]"))
    planned = re.findall(r"^(train|evaluate) +(\d+)$", snakemake("--dry-run"), flags=re.MULTILINE)
    assert dict(planned) == {"train": "2", "evaluate": "2"}
