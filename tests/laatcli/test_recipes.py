"""`--recipe`, `--dry-run` and what laat.toml and the command line make of a recipe."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from laatcli.commands.demo import EPOCHS
from laatcli.config_file import recipe_names
from tests.laatcli.inside import inside
from tests.laatcli.shell import check_refusal, refused, run, tree

# Li et al., CVPR 2024, Sec. 4.1
PUBLISHED = {
    "objective": "laat",
    "epochs": 100,
    "batch-size": 128,
    "lr": 0.05,
    "momentum": 0.9,
    "weight-decay": 5e-4,
    "schedule": "step",
    "eps": "8/255",
    "steps": 7,
    "step-size": "2/255",
    "tau": 1.0,
    "beta": 1.0,
    "augment": True,
    "awp": 0.0,
    "drop-block": 0.0,
    "ema": 0.0,
}
SMALL = {**PUBLISHED, "resize": None, "crop-padding": 4, "rotation": 15.0, "jitter": 0.0}
LARGE = {**PUBLISHED, "resize": 80, "crop-padding": 8, "rotation": 0.0, "jitter": 0.4}
RECIPES = {
    "cifar-fs-conv4": {**SMALL, "backbone": "conv4-512"},
    "cifar-fs-resnet12": {**SMALL, "backbone": "resnet12"},
    "miniimagenet-conv4": {**LARGE, "backbone": "conv4-512"},
    "miniimagenet-resnet12": {**LARGE, "backbone": "resnet12"},
    "shapes-demo": {
        **{option: PUBLISHED[option] for option in ("objective", "momentum", "weight-decay", "eps", "step-size", "beta")},
        "backbone": "conv4-64",
        "epochs": EPOCHS,  # of `laat demo`
        "batch-size": 64,
        "lr": 0.1,
        "schedule": "one-cycle",
        "steps": 3,
        "tau": 0.1,
        "augment": False,
        "resize": None,
    },
    # Yu et al., NeurIPS 2024, Sec. 4.1, and their program
    "tga-zsr": {
        "objective": "tga-zsr",
        "backbone": "clip:ViT-B-32/openai",
        "epochs": 10,
        "batch-size": 128,
        "optimizer": "sgd",
        "lr": 1e-4,
        "momentum": 0.9,
        "weight-decay": 0.0,
        "schedule": "cosine",
        "eps": "1/255",
        "steps": 2,
        "step-size": "1/255",
        "beta": 0.05,
        "alpha": 0.08,
        "augment": False,
        "tau": None,
    },
}
# of a CLIP image tower: 2 steps of 1/255, images as they are, none held out for a bias, the text tower's temperature
TUNING = {
    "eps": "1/255",
    "steps": 2,
    "step-size": "1/255",
    "augment": False,
    "seen-bias": False,
    "tau": None,
    "schedule": "cosine",
}
BY_SGD = {**TUNING, "optimizer": "sgd", "momentum": 0.9, "weight-decay": 0.0, "epochs": 10, "batch-size": 256}
BY_ADAMW = {**TUNING, "optimizer": "adamw", "lr": 1e-5, "weight-decay": 1e-4, "epochs": 2, "batch-size": 128, "steps": 10}
B32 = {**BY_SGD, "backbone": "clip:ViT-B-32/openai"}
FARE = {**BY_ADAMW, "backbone": "clip:ViT-L-14/openai", "objective": "fare", "warm-up": 0.14}
FAST = {**SMALL, "lr": 1.0, "schedule": "one-cycle", "eps": "10/255", "steps": 2, "step-size": "6.25/255"}
RECIPES |= {
    "cifar-fs-fast": {**FAST, "backbone": "conv4-64", "epochs": 12},
    "cifar-fs-conv4-plus": {**FAST, "backbone": "conv4-512"},
    "tecoa": {**B32, "objective": "tecoa", "lr": 1e-5, "warm-up": 0.2},
    "fare-2": {**FARE, "eps": "2/255"},
    "fare-4": {**FARE, "eps": "4/255"},
    "pmg-aft": {**B32, "objective": "pmg-aft", "beta": 1.0, "lr": 5e-5, "warm-up": 2.56},
    "agft": {**B32, "objective": "agft", "lr": 4e-4, "warm-up": 0.2},
}
# what a recipe says nothing about: whose data, which machine, which folder
OWN = ("anchors", "data", "split", "image-column", "label-column", "seed", "device", "out", "force", "resume", "log", "cache")


def resolved(cwd: Path, *args: object) -> tuple[dict[str, Any], dict[str, str]]:
    done = inside(cwd, "train", *args, "--dry-run", "--json")
    assert done.code == 0, done.stderr
    record = json.loads(done.stdout)
    return record["settings"], record["from"]


def test_the_recipes_are_these() -> None:
    assert recipe_names() == sorted(RECIPES)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_sets_the_published_settings_and_nothing_of_the_user_s(tmp_path: Path, name: str) -> None:
    settings, origins = resolved(tmp_path, "--recipe", name)
    assert {option: settings[option] for option in RECIPES[name]} == RECIPES[name]
    assert {origins[option] for option in OWN} == {"default"}
    assert origins["recipe"] == "command line"
    assert origins["backbone"] == f"recipe {name}"
    assert tree(tmp_path) == {}


def test_what_follows_from_another_option_still_does(tmp_path: Path) -> None:
    settings, _ = resolved(tmp_path, "--recipe", "cifar-fs-conv4", "--eps", "4/255", "--objective", "trades")
    assert (settings["step-size"], settings["beta"]) == ("1/255", 6.0)


def test_the_command_line_wins_over_laat_toml_over_the_recipe_over_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "laat.toml").write_text('[train]\nepochs = 7\nlr = 1\naugment = false\ndata = "photos"\n')
    settings, origins = resolved(tmp_path, "--recipe", "cifar-fs-resnet12", "--lr", 0.3, "--steps", 7)
    found = {option: (settings[option], origins[option]) for option in ("lr", "steps", "epochs", "data", "backbone", "seed")}
    assert found == {
        "lr": (0.3, "command line"),
        "steps": (7, "command line"),
        "epochs": (7, "laat.toml"),
        "data": ("photos", "laat.toml"),
        "backbone": ("resnet12", "recipe cifar-fs-resnet12"),
        "seed": (0, "default"),
    }
    assert (settings["augment"], origins["augment"]) == (False, "laat.toml")


def test_a_recipe_named_in_laat_toml(tmp_path: Path) -> None:
    (tmp_path / "laat.toml").write_text('[train]\nrecipe = "shapes-demo"\ntau = 1\n')
    settings, origins = resolved(tmp_path)
    assert (settings["recipe"], origins["recipe"]) == ("shapes-demo", "laat.toml")
    assert (settings["steps"], origins["steps"]) == (3, "recipe shapes-demo")
    assert (settings["tau"], origins["tau"]) == (1.0, "laat.toml")
    settings, origins = resolved(tmp_path, "--recipe", "cifar-fs-conv4")
    assert (settings["steps"], origins["steps"]) == (7, "recipe cifar-fs-conv4")
    assert (settings["tau"], origins["tau"]) == (1.0, "laat.toml")


def test_the_table_shows_option_value_and_origin(tmp_path: Path) -> None:
    done = run("train", "--recipe", "shapes-demo", "--lr", "0.2", "--dry-run", cwd=tmp_path)
    rows = [line.strip().split(maxsplit=2) for line in done.stdout.splitlines()]
    assert rows[0] == ["option", "value", "from"]
    told = {option: (value, origin) for option, value, origin in rows[1:]}
    assert told["--lr"] == ("0.2", "command line")
    assert told["--augment"] == ("false", "recipe shapes-demo")
    assert told["--data"] == ("–", "default")
    assert not {"--json", "--quiet", "--debug", "--dry-run"} & set(told)
    assert run("train", "--dry-run", "--quiet", cwd=tmp_path).stdout == ""


def test_a_dry_run_needs_no_torch(tmp_path: Path) -> None:
    script = (
        "import sys\nsys.modules['torch'] = None\nfrom laatcli.app import app\n"
        "app(['train', '--recipe', 'miniimagenet-conv4', '--dry-run'], standalone_mode=False)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "--jitter" in done.stdout


def test_a_dry_run_refuses_what_the_run_would(tmp_path: Path) -> None:
    refused(tmp_path, "train", "--recipe", "shapes-demo", "--lr", 0, "--dry-run", code=2, says=["--lr is 0"])
    fast = ("train", "--recipe", "cifar-fs-fast", "--norm", "l2", "--eps", "1/2", "--dry-run")
    refused(tmp_path, *fast, code=2, says=["--norm is l2, and the recipe's --step-size is for linf", "Add --step-size in l2"])
    assert run(*fast, "--step-size", "1/4", cwd=tmp_path).code == 0
    single = ("train", "--recipe", "cifar-fs-fast", "--inner", "n-fgsm", "--steps", 1, "--dry-run")
    says = ["--inner is n-fgsm, and the recipe's --step-size is for pgd", "Add --step-size 10/255, which is eps"]
    refused(tmp_path, *single, code=2, says=says)
    assert run(*single, "--step-size", "10/255", cwd=tmp_path).code == 0


@pytest.mark.parametrize("name", ["cifar-fs-conv", "CIFAR-FS-conv4", "../recipes/shapes-demo"])
def test_an_unknown_recipe(tmp_path: Path, name: str) -> None:
    says = [f"unknown recipe '{name}'. Nearest: "] + (["'cifar-fs-conv4'"] if "conv" in name else [])
    refused(tmp_path, "train", "--recipe", name, code=2, says=says)


def test_an_unknown_recipe_in_laat_toml(tmp_path: Path) -> None:
    (tmp_path / "laat.toml").write_text('[train]\nrecipe = "shapes"\n')
    refused(tmp_path, "train", code=2, says=["unknown recipe 'shapes'", "'shapes-demo'"])


@pytest.mark.parametrize(
    ("command", "line", "says"),
    [
        ("train", "backbone = 3", "sets 'backbone' to 3, expected text in quotes"),
        ("train", "eps = 0.03", "sets 'eps' to 0.03, expected text in quotes"),
        ("train", "data = true", "sets 'data' to true, expected text in quotes"),
        ("train", "out = ['a']", "sets 'out' to ['a'], expected text in quotes"),
        ("train", "data = 2024-01-01", "sets 'data' to 2024-01-01, expected text in quotes"),
        ("train", "lr = '0.1'", "sets 'lr' to '0.1', expected a number"),
        ("train", "lr = true", "sets 'lr' to true, expected a number"),
        ("train", "epochs = 2.0", "sets 'epochs' to 2.0, expected a whole number"),
        ("train", "epochs = true", "sets 'epochs' to true, expected a whole number"),
        ("train", "augment = 'no'", "sets 'augment' to 'no', expected true or false"),
        ("train", "force = 1", "sets 'force' to 1, expected true or false"),
        ("train", "resize.side = 3", "sets 'resize' to a table, expected a whole number"),
        ("train", "recipe = 3", "sets 'recipe' to 3, expected text in quotes"),
        ("eval", "attack = 'pgd-20'", "sets 'attack' to 'pgd-20', expected a list of text in brackets"),
        ("eval", "attack = ['pgd-20', 3]", "expected a list of text in brackets"),
    ],
)
def test_a_value_of_another_kind_in_laat_toml(tmp_path: Path, command: str, line: str, says: str) -> None:
    (tmp_path / "laat.toml").write_text(f"[{command}]\n{line}\n")
    done = run(command, "--help", cwd=tmp_path)
    check_refusal(done, 2, f"table [{command}] of 'laat.toml' ", says)


def test_values_of_the_right_kinds(tmp_path: Path) -> None:
    (tmp_path / "laat.toml").write_text(
        "[train]\nlr = 1\neps = '4/255'\naugment = false\nepochs = 3\nout = 'here'\nresize = 40\n"
        "[eval]\nattack = ['pgd-20']\nmodels = ['run/model.st']\n"
    )
    settings, _ = resolved(tmp_path)
    found = [settings[option] for option in ("lr", "eps", "augment", "epochs", "out", "resize")]
    assert found == [1.0, "4/255", False, 3, "here", 40]
    check_refusal(run("eval", cwd=tmp_path), 3, "'run/model.st' does not exist")
