"""S, U and H at the bias of a checkpoint's calibration: predictions and attacks at that bias, beside the figures at bias 0."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from stages.anchors.anchor_set import AnchorSet
from stages.attacks.perturb import attack_images
from stages.attacks.spec import AttackPlan, parse_attack, parse_attacks
from stages.classes import ClassGroups
from stages.errors import InputError, RequirementError
from stages.evaluation.evaluate import AT_BIAS, Evaluation, evaluate_classifiers
from stages.evaluation.groups import seen_and_novel
from stages.evaluation.protocol import Protocol
from stages.evaluation.task import Task
from stages.files.artifact_params import Calibration
from stages.models.classifier import Classifier
from stages.reports.compare import Source, compare_reports
from stages.reports.plots import plot_report
from stages.reports.records import Report
from stages.reports.report import read_report, report_bytes
from stages.reports.report_tables import report_tables
from stages.reports.requirements import met_text, require
from stages.reports.verify import rows_of_report
from stages.statistics.calibration import expected_calibration_error
from stages.threat import ThreatModel
from tests.stages.evaluation.models import Channels
from tests.stages.evaluation.test_score import NAMES
from tests.stages.evaluation.test_score_gzsl import SEEN, noisy
from tests.stages.models.test_calibrated import FIT, FOUND

THREAT = ThreatModel(Fraction(4, 255))
ATTACKS = ("fgsm", "pgd-5")


def checkpoint(bias: float | None = 0.15, *, calibrated: bool = True) -> Classifier:
    """Red and green are seen, blue is novel."""
    anchors = AnchorSet(np.eye(3, dtype=np.float32), NAMES, ClassGroups.from_counts(3, SEEN), {"source": "given"})
    reason = {"no_bias": "there are no validation classes"} if bias is None else {"bias": bias, "bias_fit": FIT}
    found = Calibration.model_validate({**FOUND, **reason}) if calibrated else None
    return Classifier(Channels(0.38), anchors, logit_scale=2, calibration=found)


def evaluated(*models: Classifier, attacks: tuple[str, ...] = ATTACKS) -> Evaluation:
    named = {f"run {at}": one for at, one in enumerate(models)}
    choice, images = seen_and_novel(models[0].anchor_set), noisy().image_set()
    return evaluate_classifiers(Task(named, [choice], images, Protocol("gzsl"), parse_attacks(attacks), THREAT))


@pytest.fixture(scope="module")
def found() -> Evaluation:
    return evaluated(checkpoint())


def test_there_is_a_result_at_bias_0_and_one_at_the_bias(found: Evaluation) -> None:
    plain, biased = found.results
    assert (plain.protocol, biased.protocol) == ("gzsl", AT_BIAS)
    assert plain.gzsl is not None
    assert biased.gzsl is not None
    assert (plain.gzsl.bias, biased.gzsl.bias) == (None, 0.15)
    assert biased.gzsl.curves == {}
    assert any(
        note.startswith(f"{AT_BIAS}: the bias of the checkpoint, fitted on validation classes") for note in found.report.notes
    )
    # less is taken for seen classes
    assert biased.gzsl.clean.U.accuracy > plain.gzsl.clean.U.accuracy
    assert biased.gzsl.clean.S.accuracy < plain.gzsl.clean.S.accuracy


def test_the_figures_at_bias_0_are_those_without_a_calibration(found: Evaluation) -> None:
    (alone,) = evaluated(checkpoint(calibrated=False)).results
    assert alone == found.results[0]


def test_clean_figures_at_the_bias_are_those_of_the_curve_there(found: Evaluation) -> None:
    plain, biased = found.results
    assert plain.gzsl is not None
    assert biased.gzsl is not None
    curve = plain.gzsl.curves["clean"]
    at = int(np.searchsorted(curve.bias, 0.15, side="right")) - 1
    assert (biased.gzsl.clean.S.accuracy, biased.gzsl.clean.U.accuracy) == pytest.approx((curve.seen[at], curve.novel[at]))


def test_the_attack_is_run_at_the_bias(found: Evaluation) -> None:
    group = noisy()
    biased = checkpoint().with_bias(0.15)
    plan = AttackPlan(parse_attack("pgd-5"), THREAT, seed=0, batch_size=64)
    _, clean, attacked = attack_images(biased, group.images, group.labels, plan)
    right = (clean == group.labels) & (attacked == group.labels)
    novel = group.labels >= SEEN
    (_, result) = found.results
    assert result.gzsl is not None
    shown = result.gzsl.attacks["pgd-5"].U.accuracy
    assert shown == pytest.approx(float(right[novel].float().mean()))
    # images of an attack at bias 0 say too much: fewer of them fall at the bias
    weak, _, _ = attack_images(checkpoint(), group.images, group.labels, plan)
    with torch.no_grad():
        transferred = (clean == group.labels) & (biased(weak).argmax(1) == group.labels)
    assert 0 < shown < float(transferred[novel].float().mean()) <= result.gzsl.clean.U.accuracy


def test_saved_it_opens_and_agrees_with_its_rows(found: Evaluation, tmp_path: Path) -> None:
    found.save(tmp_path / "report.json")
    report = read_report(tmp_path / "report.json")
    assert report.results == found.results
    assert [part.protocol for part in rows_of_report(report, tmp_path / "report.json")] == ["gzsl", AT_BIAS]
    plot_report(report, tmp_path / "plot.png")


def test_other_s_u_or_bias_than_the_rows_give_are_refused(found: Evaluation, tmp_path: Path) -> None:
    found.save(tmp_path / "report.json")
    report = read_report(tmp_path / "report.json")
    plain, biased = report.results
    assert biased.gzsl is not None
    moved = biased.gzsl.model_copy(update={"clean": biased.gzsl.worst, "worst": biased.gzsl.clean})
    forged = report.model_copy(update={"results": [plain, biased.model_copy(update={"gzsl": moved})]})
    (tmp_path / "report.json").write_bytes(report_bytes(Report.model_validate_json(forged.model_dump_json())))
    with pytest.raises(InputError, match=r"results\[1\] has (clean|worst) [SU]"):
        read_report(tmp_path / "report.json")


def test_the_table_names_both_biases(found: Evaluation) -> None:
    table = report_tables({"report": found.report})[1]
    at = table.columns.index("bias")
    assert [row[at] for row in table.rows] == ["0"] * 4 + ["0.1500"] * 4
    assert {row[-1] for row in table.rows[4:]} == {"–"}


def test_reports_are_compared_at_both(found: Evaluation, tmp_path: Path) -> None:
    found.save(tmp_path / "one.json")
    evaluated(checkpoint(bias=0.05)).save(tmp_path / "two.json")
    evaluated(checkpoint(bias=None)).save(tmp_path / "none.json")
    same = compare_reports(Source(tmp_path / "one.json"), Source(tmp_path / "two.json"))
    found_at = {measure.measure: measure for measure in same.measures if measure.protocol == AT_BIAS}
    assert {"clean", "worst", "clean S", "worst U", "fgsm H"} <= found_at.keys()
    assert "clean AUSUC" not in found_at
    assert found_at["clean U"].paired.difference < 0
    other = compare_reports(Source(tmp_path / "one.json"), Source(tmp_path / "none.json"))
    assert {measure.protocol for measure in other.measures} == {"gzsl"}
    assert f"only in one of the reports, so not compared: seen+novel {AT_BIAS}" in other.notes


def test_requirements_name_the_bias_that_they_mean(found: Evaluation) -> None:
    _, biased = found.results
    assert biased.gzsl is not None
    value = 100 * biased.gzsl.worst.H.accuracy
    met = [f"worst H at the bias>={value - 0.1:.1f}", "clean AUSUC>0"]
    require(found.report, met)
    assert met_text(found.report, met) == f"every model and group meets {met[0]}, clean AUSUC>0 at bias 0"
    with pytest.raises(RequirementError, match="1 of 1 required figure missed: worst H at the bias"):
        require(found.report, [f"worst H at the bias>={value + 0.1:.1f}"])
    with pytest.raises(RequirementError, match="the checkpoint has no fitted bias"):
        require(evaluated(checkpoint(bias=None)).report, ["clean H at the bias>=0"])


def test_the_calibration_error_is_noted_when_asked_for() -> None:
    made, images = checkpoint(), noisy().image_set()
    choice = seen_and_novel(made.anchor_set)
    task = Task({"run": made}, [choice], images, Protocol("gzsl"), (), THREAT, calibration_error=True)
    with torch.no_grad():
        logits = made(images.images)
    before, after = (
        100 * expected_calibration_error(one.numpy(), images.labels.numpy())
        for one in (logits.softmax(1), made.probabilities(logits))
    )
    said = f"error on 90 clean images {before:.1f} % at temperature 1, {after:.1f} % with the calibration (15 bins)"
    assert f"seen+novel: expected calibration {said}" in evaluate_classifiers(task).report.notes
    assert "calibration_error" in task.identity["settings"]
    assert "calibration_error" not in replace(task, calibration_error=False).identity["settings"]


def test_without_a_bias_it_says_why() -> None:
    notes = evaluated(checkpoint(bias=None), checkpoint(calibrated=False), attacks=()).report.notes
    assert "no figures at a fitted bias: there are no validation classes (run 0)" in notes
    assert "no figures at a fitted bias: it has no calibration (run 1)" in notes


def test_chunks_at_the_bias_are_their_own() -> None:
    from stages.evaluation.evaluate import _follows_from

    made = checkpoint()
    choice = seen_and_novel(made.anchor_set)
    task = Task({"run": made}, [choice], noisy().image_set(), Protocol("gzsl"), (), THREAT)
    records = [_follows_from(task, one, choice, Protocol("gzsl"), None) for one in (made, made.with_bias(0.15))]
    assert records[0] != records[1]
