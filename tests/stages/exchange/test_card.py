"""The model card: what it says of a checkpoint and its report, and that names cannot change its form."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from huggingface_hub import ModelCard

from stages.anchors.expanded import expand_anchors
from stages.anchors.merged import merge_anchors
from stages.exchange.card import model_card
from stages.expand.methods import ExpandSettings
from stages.files.artifacts import Artifact, from_bytes, to_bytes
from stages.reports.model_records import anchors_method
from stages.reports.records import Checks, Report
from tests.stages.models.test_checkpoint import anchors, artifact_of
from tests.stages.models.test_checkpoint import checkpoint as classifier
from tests.stages.reports.test_plots import gzsl_report
from tests.stages.reports.test_report import EPISODES, report

FILES = {"model.st": 12345, "report.json": 67}


@pytest.fixture(scope="module")
def checkpoint() -> Artifact:
    return from_bytes(to_bytes(artifact_of(classifier())), where="it", kind="model")


def card(checkpoint: Artifact, found: Report | None, **change: Any) -> str:
    return model_card("org/model", replace(checkpoint, **change), found, license="mit", files=FILES)


def section(text: str, title: str) -> str:
    found = re.search(rf"^## {title}\n\n(.*?)(?=^## |\Z)", text, flags=re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


def test_the_metadata_have_the_figures(checkpoint: Artifact) -> None:
    data = ModelCard(card(checkpoint, report())).data
    assert (data.license, data.library_name, data.pipeline_tag) == ("mit", "laat", "zero-shot-image-classification")
    clean, robust = data.eval_results
    assert (data.model_name, clean.dataset_name, clean.dataset_split) == ("model", "shapes", "test")
    assert (clean.metric_value, robust.metric_value) == (75.0, 50.0)
    assert robust.metric_name == "robust accuracy under pgd-20 (%), novel classes, all-way"
    assert {"norm": "Linf", "eps": "8/255", "ways": 16, "classes": "novel"}.items() <= robust.metric_args.items()
    assert robust.metric_args["low"] < 50 < robust.metric_args["high"]
    assert "eps" not in clean.metric_args


def test_the_card_says_how_it_was_measured(checkpoint: Artifact) -> None:
    text = card(checkpoint, report())
    evaluation = section(text, "Evaluation")
    for part in (
        "| run | novel | 6.2 | 75.0 ± ",
        "± Wilson 95 % over images",
        "note: the classes were trained on",
        "| threat model | Linf 8/255, pixels in ",
        "| attacker knowledge | white-box |",
        "| attack | pgd-20, loss ce, ",
        "| data | shapes, test |",
        "The attacks were not checked.",
    ):
        assert part in evaluation, part
    assert checkpoint.sha256 in section(text, "Model")
    assert "| tau | 0.5 |" in section(text, "Training")
    assert "| model.st | 12,345 |" in section(text, "Files")
    assert 'laat.load("hf-hub:org/model")' in section(text, "Use")
    assert card(checkpoint, report()) == text


def test_what_was_not_measured(checkpoint: Artifact) -> None:
    missing = section(card(checkpoint, report()), "What was not measured")
    for part in (
        "Threat models other than Linf with eps 8/255",
        "AutoAttack's apgd-ce, apgd-t, fab-t, square.",
        "Attacks that use no gradients.",
        "Accuracy on the 3 seen classes.",
        "generalized zero-shot",
        "Few-shot",
        "their checks were left out",
        "spread over trainings",
    ):
        assert part in missing, part
    assert "novel classes." not in missing
    assert "Few-shot" not in section(card(checkpoint, report(EPISODES)), "What was not measured")
    gzsl = section(card(checkpoint, gzsl_report()), "What was not measured")
    assert "generalized" not in gzsl
    assert "seen classes." not in gzsl


def test_figures_at_the_fitted_bias_are_called_so(checkpoint: Artifact) -> None:
    found = gzsl_report()
    (result,) = found.results
    assert result.gzsl is not None
    biased = result.model_copy(
        update={"protocol": "gzsl at the fitted bias", "gzsl": result.gzsl.model_copy(update={"bias": 0.1})}
    )
    text = card(checkpoint, found.model_copy(update={"results": [result, biased]}))
    first, second = (line for line in text.splitlines() if line.startswith("Accuracy ("))
    assert "100 images, gzsl at bias 0, attacks in Linf 8/255): clean " in first
    assert f"clean {100 * result.gzsl.clean.H.accuracy:.1f} %, worst {100 * result.gzsl.worst.H.accuracy:.1f} %" in first
    assert "100 images, gzsl at the fitted bias, attacks" in second


def test_settings_are_written_for_people(checkpoint: Artifact) -> None:
    settings = {"augment": False, "views": ["a", 0.5], "resized": {"inside": "none", "grid": [32, 32]}}
    chosen = {"epoch": 14, "clean": 0.998991, "robust": None, "images": 992, "classes": 16, "source": "validation classes"}
    params = {**checkpoint.params, "training": {"settings": settings, "selection": chosen}}
    text = section(card(checkpoint, None, params=params), "Training")
    assert "| augment | no |" in text
    assert "| views | a, 0.5 |" in text
    assert "| resized | inside none, grid 32, 32 |" in text
    assert "| selected epoch | 14, clean accuracy 99.9 %, on 992 images of 16 classes: validation classes |" in text


def test_without_a_report_nothing_is_claimed(checkpoint: Artifact) -> None:
    text = card(checkpoint, None)
    assert "**Its accuracy and robustness were not measured.**" in text
    assert ModelCard(text).data.eval_results is None
    assert "Everything: clean accuracy, and robustness against any attack." in section(text, "What was not measured")
    assert "%" not in section(text, "Evaluation")


def test_failed_checks_are_a_warning_at_the_top(checkpoint: Artifact) -> None:
    finding = {"name": "gradients", "result": "fail", "sentence": "the gradients are zero", "figures": {}}
    entry = {"findings": [finding], "group": "novel", "model": "run", "protocol": "all-way"}
    checks = Checks.model_validate({**entry, "sample": {"of": 40, "points": 40, "seed": 0}})
    text = card(checkpoint, report().model_copy(update={"checks": [checks]}))
    assert "> **Warning:** checks of the attacks failed (gradients)" in text.partition("## Use")[0]
    assert "FAIL gradients: the gradients are zero" in section(text, "Evaluation")


ODD = "a | b\n# c <script> [x](http://y) `z` ---\n\x1b[31m: 'q' \"r\" {{s}} 猫"


def test_names_from_outside_are_shown_as_they_are(checkpoint: Artifact) -> None:
    names = [ODD, *checkpoint.params["classes"][1:]]
    found = report()
    result = found.results[0].model_copy(update={"model": ODD, "group": ODD})
    model = found.models[0].model_copy(update={"name": ODD})
    data = found.data.model_copy(update={"source": ODD})
    odd = found.model_copy(update={"results": [result], "models": [model], "data": data, "notes": [ODD]})
    training = {**checkpoint.params["training"], "data": {"source": ODD}, "note\n# x": ODD}
    text = card(checkpoint, odd, params={**checkpoint.params, "classes": names, "training": training})
    assert "\x1b" not in text
    plain = card(checkpoint, found)
    headings = re.findall(r"^#.*", text, flags=re.MULTILINE)
    assert headings == re.findall(r"^#.*", plain, flags=re.MULTILINE)
    body = text.split("\n---\n", 2)[1]
    for line in body.splitlines():
        if line.startswith("|"):
            assert len(re.findall(r"(?<!\\)\|", line)) in (3, 6), line
    assert not re.search(r"(?<!\\)<script|(?<!\\)\[x(?<!\\)\]", body)
    results = ModelCard(text).data.eval_results
    assert [one.metric_value for one in results] == [75.0, 50.0]
    assert results[0].dataset_name.startswith("a | b\\n# c <script>")


def test_an_imported_model_is_not_passed_off_as_trained_here(checkpoint: Artifact) -> None:
    imported = {"layout": "fare", "file": "fare_2.pt", "sha256": "5" * 64, "changes": ["tower replaced"], "ignored": {}}
    training = {"settings": {"tau": 0.01}, "imported": {**imported, "groups_known": False}}
    text = card(replace(checkpoint, params={**checkpoint.params, "training": training}), None)
    count = len(checkpoint.params["classes"])
    assert f"Classes: {count} possibly seen. Converted from fare\\_2.pt of another program" in text
    assert f"Possibly seen classes ({count}): " in section(text, "Model")
    assert f"| imported from | fare\\_2.pt (fare), SHA-256 {'5' * 64} |" in section(text, "Training")
    assert "| changed | tower replaced |" in section(text, "Training")


@pytest.mark.parametrize(
    ("origin", "why"),
    [
        ({"source": "text", "model": "local-dir:ld"}, "the checkpoint's encoder was given as 'ld'"),
        (
            {"source": "text", "model": "ViT-B-32", "pretrained": "file:own.pt"},
            "the checkpoint's encoder was given as 'own.pt'",
        ),
        ({"source": "random"}, "the checkpoint's anchors come from random, which cannot encode names"),
    ],
)
def test_names_are_not_promised_without_their_encoder(checkpoint: Artifact, origin: dict[str, Any], why: str) -> None:
    assert "--names" in section(card(checkpoint, None), "Use")
    text = card(checkpoint, None, params={**checkpoint.params, "origin": origin})
    use = section(text, "Use")
    assert "--names" not in text
    assert "recognises classes from their names" not in text
    assert "laat predict hf-hub:org/model photos/ --anchors anchors.st" in use
    assert f"Other class names need anchors of the same kind: {why}" in use


def test_the_calibration_is_in_the_card(checkpoint: Artifact) -> None:
    fitted = {
        "temperature": 2.5,
        "source": "validation classes",
        "images": 400,
        "classes": 8,
        "ece_before": 0.2,
        "ece_after": 0.04,
    }
    record = {**fitted, "bias": None, "bias_fit": None, "no_bias": "no validation classes"}
    text = section(card(checkpoint, report(), params={**checkpoint.params, "calibration": record}), "Model")
    error = "expected calibration error 20.0 % -\\> 4.0 %"
    assert f"temperature 2.5, {error} (on the 400 images that it was fitted on: 8 classes, validation classes); no bias" in text
    assert "| calibration | none |" in section(card(checkpoint, report()), "Model")


def test_what_the_attacker_did_not_know_is_said(checkpoint: Artifact) -> None:
    found = report()
    assert found.threat is not None
    transfer = found.model_copy(update={"threat": found.threat.model_copy(update={"knowledge": "transfer"})})
    text = card(checkpoint, transfer)
    assert "attacks in Linf 8/255, transfer): clean" in text
    assert "White-box attacks on this model: what the attacker knew is transfer." in section(text, "What was not measured")
    assert "| attacker knowledge | transfer |" in section(text, "Evaluation")
    assert ModelCard(text).data.eval_results[1].metric_args["knowledge"] == "transfer"


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (ExpandSettings(), "paper, largest angle to the centre before it: "),
        (ExpandSettings(angle=60.0), "paper, angle 60, largest angle to the centre before it: "),
        (ExpandSettings("centre"), "centre |"),
        (ExpandSettings("whiten"), "whiten, components 2, shrinkage 0.1 |"),
    ],
)
def test_the_card_names_the_method_of_the_expansion(settings: ExpandSettings, says: str) -> None:
    made = from_bytes(to_bytes(artifact_of(classifier(settings=settings))), where="it", kind="model")
    assert f"| anchors: expansion | {says}" in card(made, None)


def test_the_card_has_the_parts_of_merged_anchors(checkpoint: Artifact) -> None:
    raw = anchors()
    centred, _ = expand_anchors(raw, settings=ExpandSettings("centre"))
    origin = merge_anchors([replace(raw, origin={"source": "glove"}), centred], (3, 1)).origin
    text = section(card(checkpoint, report(), params={**checkpoint.params, "origin": origin}), "Model")
    assert "| anchors: source | merged |" in text
    for row in ("1: weight | 0.75", "1: source | glove", "1: expansion | none", "2: weight | 0.25", "2: expansion | centre"):
        assert f"| anchors, part {row} |" in text, row


def test_the_training_names_the_method_of_the_expansion() -> None:
    raw = anchors()
    for source, settings, says in (
        ("text", ExpandSettings(), "expanded"),
        ("random", ExpandSettings(), "expanded random"),
        ("text", ExpandSettings(angle=60.0), "expanded angle=60"),
        ("glove", ExpandSettings("centre"), "centred glove"),
        ("text", ExpandSettings("whiten", components=1), "whitened components=1 shrinkage=0.1"),
    ):
        moved, _ = expand_anchors(replace(raw, origin={"source": source}), settings=settings)
        assert anchors_method(moved) == says
    centred, _ = expand_anchors(raw, settings=ExpandSettings("centre"))
    merged = merge_anchors([raw, replace(centred, origin={"source": "glove"})])
    assert anchors_method(merged) == "merged (raw + centred glove)"
