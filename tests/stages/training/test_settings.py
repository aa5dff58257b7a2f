from __future__ import annotations

import json
import subprocess
import sys
from fractions import Fraction
from typing import Any

import pytest

from stages.errors import UsageError
from stages.threat import ThreatModel
from stages.training.objectives import OBJECTIVES, find_objective
from stages.training.settings import TrainSettings


def test_the_defaults_are_the_published_ones() -> None:
    found = TrainSettings()
    assert (found.objective, found.epochs, found.batch_size, found.lr) == ("laat", 100, 128, 0.05)
    assert (found.momentum, found.weight_decay, found.schedule) == (0.9, 5e-4, "step")
    assert (found.eps, found.steps, found.step) == (Fraction(8, 255), 7, Fraction(2, 255))
    assert (found.temperature, find_objective("laat").default_beta) == (1, 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objective": "lat"}, "unknown --objective 'lat'; nearest: 'laat'"),
        ({"schedule": "cosin"}, "unknown --schedule 'cosin'; choose one of step, cosine, one-cycle"),
        ({"rotation": 1e26}, "--rotation is 1e\\+26; choose at most 180"),
        ({"epochs": 0}, "--epochs is 0; choose at least 1"),
        ({"epochs": -3}, "--epochs"),
        ({"batch_size": 1}, "--batch-size is 1; choose at least 2"),
        ({"steps": 0}, "--steps"),
        ({"seed": -1}, "--seed"),
        ({"lr": 0.0}, "--lr is 0; choose a number above 0"),
        ({"lr": float("nan")}, "--lr"),
        ({"lr": float("inf")}, "--lr"),
        ({"momentum": -0.1}, "--momentum"),
        ({"weight_decay": -1e-4}, "--weight-decay"),
        ({"weight_decay": float("nan")}, "--weight-decay"),
        ({"optimizer": "adam"}, "unknown --optimizer 'adam'; choose one of sgd, adamw"),
        ({"optimizer": "adamw"}, "--lr 0.05, the default for SGD, is far too high for AdamW; give another"),
        ({"optimizer": "adamw", "lr": 1e-3, "momentum": 0.8}, "--momentum has no meaning with --optimizer adamw; leave it out"),
        ({"adam_beta2": 0.98}, "--adam-beta2 has no meaning with --optimizer sgd; leave it out, or use --optimizer adamw"),
        ({"optimizer": "adamw", "lr": 1e-3, "adam_beta1": 1.0}, "--adam-beta1 1 is not below 1"),
        ({"optimizer": "adamw", "lr": 1e-3, "adam_eps": 0.0}, "--adam-eps is 0; choose a number above 0"),
        ({"tau": 0.0}, "--tau"),
        ({"tau": -1.0}, "--tau"),
        ({"beta": -1.0}, "--beta"),
        ({"eps": Fraction(0)}, "--eps is 0, so there is no attack"),
        ({"eps": Fraction(0), "objective": "at"}, "--eps is 0, so there is no attack"),
        ({"eps": Fraction(8)}, "eps '8' is over 1, and pixels range from 0 to 1"),
        ({"eps": Fraction(-1, 255)}, "eps '-1/255' is not a number between 0 and 1"),
        ({"norm": "l1"}, "unknown norm 'l1'; known norms: linf, l2"),
        ({"norm": "l2", "eps": Fraction(3000)}, "eps '3000' is over 1732"),
        ({"norm": "l2", "eps": Fraction(0)}, "--eps is 0, so there is no attack"),
        ({"step_size": Fraction(2)}, "eps '2' is over 1"),
        ({"step_size": Fraction(0)}, "--step-size is 0; choose a number above 0"),
        ({"step_size": Fraction(-2, 255)}, "--step-size"),
        ({"inner": "nfgsm"}, "unknown --inner 'nfgsm'; choose one of pgd, n-fgsm"),
        ({"inner": "n-fgsm", "steps": 3}, "--inner n-fgsm takes a single step, and --steps is 3; add --steps 1"),
        ({"inner": "n-fgsm", "norm": "l2"}, "--inner n-fgsm is for linf, and --norm is l2; use --inner pgd"),
        ({"inner": "n-fgsm", "start_noise": -1.0}, "--start-noise is -1; choose at least 0"),
        (
            {"inner": "n-fgsm", "objective": "clean"},
            "--inner n-fgsm has no meaning with --objective clean, which has no attack",
        ),
        ({"start_noise": 2.0}, "--start-noise has no meaning with --inner pgd, .* leave it out, or use --inner n-fgsm"),
    ],
)
def test_values_that_make_no_sense(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        TrainSettings(**changes)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_setting_that_the_objective_does_not_use_is_refused(name: str) -> None:
    used = {"tau"} if name not in ("aq", "at-linear") else set()
    used |= {"beta"} if name in ("laat", "trades", "pmg-aft", "tga-zsr") else set()
    used |= {"alpha"} if name == "tga-zsr" else set()
    for option in ("tau", "beta", "alpha"):
        given: dict[str, Any] = {"objective": name, option: 0.0 if option != "tau" else 1.0}
        if option in used:
            assert TrainSettings(**given).objective == name
        else:
            with pytest.raises(
                UsageError, match=f"--{option} has no meaning with --objective {name}; leave it out; these use it"
            ):
                TrainSettings(**given)


def test_a_step_of_its_own() -> None:
    found = TrainSettings(step_size=Fraction(1, 255))
    for given in ("1/255", 1 / 255):  # as eps
        assert TrainSettings(step_size=given).to_record() == found.to_record()
    assert found.step == Fraction(1, 255)
    attack = found.selection_attack()
    assert attack.step_size(found.threat) == pytest.approx(1 / 255)
    assert (attack.name, attack.steps, attack.loss, attack.random_start) == ("pgd-7", 7, "ce", True)


def test_n_fgsm_is_one_step_of_eps_from_noise_twice_as_wide() -> None:
    found = TrainSettings(inner="n-fgsm")
    assert (found.steps, found.step, found.start_noise) == (1, Fraction(8, 255), 2)
    record = found.to_record()
    assert (record["inner"], record["steps"], record["step_size"], record["start_noise"]) == ("n-fgsm", 1, "8/255", 2)
    assert not {"inner", "start_noise"} & TrainSettings().to_record().keys()  # as older runs


@pytest.mark.parametrize("few", [{"inner": "n-fgsm"}, {"steps": 1, "step_size": Fraction(10, 255)}, {"steps": 2}])
def test_epochs_of_an_inner_attack_of_few_steps_are_scored_under_more(few: dict[str, Any]) -> None:
    assert TrainSettings(**few).selection_attack() == TrainSettings().selection_attack()
    assert TrainSettings(steps=3).selection_attack().name == "pgd-3"


def test_a_clean_run_needs_no_eps() -> None:
    assert TrainSettings(objective="clean", eps=Fraction(0)).threat.eps == 0


def test_a_euclidean_ball() -> None:
    found = TrainSettings(norm="L2")
    assert (found.norm, found.threat) == ("l2", ThreatModel("128/255", "L2"))
    assert found.step == Fraction(32, 255)
    larger = TrainSettings(norm="l2", eps=Fraction(3), step_size=Fraction(3, 2))
    assert larger.selection_attack().step_size(larger.threat) == 1.5
    record = larger.to_record()
    assert (record["norm"], record["eps"], record["step_size"]) == ("l2", "3", "1.5")
    assert "norm" not in TrainSettings().to_record()  # as older runs


def test_the_record_is_json_with_exact_fractions() -> None:
    record = TrainSettings().to_record()
    assert json.loads(json.dumps(record)) == record
    assert (record["eps"], record["step_size"]) == ("8/255", "2/255")
    assert TrainSettings(step_size=Fraction(2, 255)).to_record() == record


def test_settings_that_older_runs_do_not_have_are_recorded_where_they_are_not_the_default() -> None:
    assert not {"optimizer", "adam_beta1", "adam_beta2", "adam_eps", "decay_norms"} & TrainSettings().to_record().keys()
    record = TrainSettings(optimizer="adamw", lr=1e-5, adam_beta2=0.98, decay_norms=False).to_record()
    assert {"optimizer": "adamw", "adam_beta2": 0.98, "decay_norms": False}.items() <= record.items()


def test_settings_are_checked_without_torch() -> None:
    code = "import sys; from stages.training.settings import TrainSettings; TrainSettings(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
