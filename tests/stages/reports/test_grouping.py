"""Reports of several training runs in groups, and groups against a baseline."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from laatcli.app import app
from stages.evaluation.protocol import Protocol
from stages.reports.measures import OVER_ALIKE, OVER_EPISODES
from stages.reports.report import read_report
from stages.reports.verify import rows_of_report
from stages.statistics.paired import paired_classes, paired_images, paired_runs
from stages.threat import ThreatModel
from tests.stages.reports.test_compare import EPISODES, save

GROUP = ("--group-by", "objective,anchors")
LEAN = {"at": 1.0, "laat": 2.5}


def run_report(folder: Path, objective: str, seed: int | None, *, name: str = "", **others: Any) -> Path:
    """The report of a run of this objective and seed; what `save` does not know are entries of its training."""
    known = {key: others.pop(key) for key in ("protocol", "attacks", "threat", "data", "groups") if key in others}
    name = name or f"{objective}-{seed}"
    training = {"anchors": "raw", "anchors_sha256": "aa", "backbone": "conv4-8", "objective": objective, "name": name}
    anchors = others.pop("answered_with", None)
    training |= {"lr": 0.05} | ({} if seed is None else {"seed": seed}) | others
    model = {"name": name, "sha256": f"{name} sha", "objective": objective, "anchors": "text, raw", "training": training}
    path = folder / name / "report.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    change = {"models": [model]} | ({"identity": {"inputs": {"anchors": anchors}}} if anchors else {})
    save(path, {name: LEAN[objective] + 0.2 * (seed or 0)}, change=change, **known)
    return path


def laat(*args: object) -> Result:
    return CliRunner().invoke(app, ["report", *map(str, args)])


def shown(*args: object) -> str:
    done = laat(*args)
    assert done.exit_code == 0, done.output
    return done.stdout


def refused(*args: object, code: int = 3) -> str:
    done = laat(*args)
    assert done.exit_code == code, done.output
    return done.stderr


def accuracies(paths: Sequence[Path], measure: str) -> list[float]:
    return [read_report(path).results[0].shares()[measure].accuracy for path in paths]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    folder = tmp_path_factory.mktemp("runs")
    return {name: [run_report(folder, name, seed) for seed in range(3)] for name in LEAN}


def test_each_group_is_a_row_with_mean_and_deviation(runs: dict[str, list[Path]]) -> None:
    text = shown(*runs["at"], *runs["laat"], *GROUP, "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [(row["objective"], row["anchors"], row["seeds"]) for row in rows] == [("at", "raw", "3"), ("laat", "raw", "3")]
    for row in rows:
        for measure in ("clean", "fgsm", "pgd-2", "worst"):
            values = accuracies(runs[row["objective"]], measure)
            assert float(row[measure]) == pytest.approx(np.mean(values))
            assert float(row[f"{measure} sd"]) == pytest.approx(np.std(values, ddof=1))


def test_the_difference_is_paired_by_seed_and_image(runs: dict[str, list[Path]]) -> None:
    record = json.loads(shown(*runs["at"], *runs["laat"], *GROUP, "--baseline", "objective=at", "--json"))
    decisions = {
        name: np.stack([rows_of_report(read_report(path), path)[0].rows.correct()["pgd-2"] for path in paths])
        for name, paths in runs.items()
    }
    expected = paired_runs(decisions["at"], decisions["laat"])
    line = next(one for one in record["differences"] if one["measure"] == "pgd-2")
    assert [line[key] for key in ("difference", "low", "high", "p")] == pytest.approx(list(vars(expected).values()))
    label = rows_of_report(read_report(runs["at"][0]), runs["at"][0])[0].rows.label
    assert line["over_classes"] == pytest.approx(vars(paired_classes(decisions["at"], decisions["laat"], label)))
    assert (line["label"]["objective"], line["baseline"]["objective"], line["seeds"]) == ("laat", "at", [0, 1, 2])
    assert [one["measure"] for one in record["differences"]] == ["clean", "fgsm", "pgd-2", "worst"]
    for same in ("at", "at, raw", "at-1"):
        other = json.loads(shown(*runs["at"], *runs["laat"], *GROUP, "--baseline", same, "--json"))
        assert other["differences"] == record["differences"]


def test_without_rows_the_difference_is_over_seeds_alone(tmp_path: Path) -> None:
    paths = {name: [run_report(tmp_path, name, seed) for seed in range(3)] for name in LEAN}
    for path in tmp_path.glob("laat-1/*.parquet"):
        path.unlink()
    record = json.loads(shown(*paths["at"], *paths["laat"], *GROUP, "--baseline", "at", "--json"))
    first, second = (np.array(accuracies(paths[name], "clean"))[:, None] for name in ("at", "laat"))
    line = record["differences"][0]
    assert [line["low"], line["high"]] == pytest.approx([paired_runs(first, second).low, paired_runs(first, second).high])
    assert line["interval"].startswith("Student t 95 % over paired seeds")
    assert line["over_classes"] is None


def test_two_kinds_of_interval_say_which_rows_have_them(runs: dict[str, list[Path]], tmp_path: Path) -> None:
    without = [run_report(tmp_path, "laat", seed, anchors="simplex", anchors_sha256="bb") for seed in range(2)]
    for path in tmp_path.glob("*/*.parquet"):
        path.unlink()
    text = shown(*runs["at"], *runs["laat"], *without, *GROUP, "--baseline", "at", "--format", "markdown")
    assert "of laat, raw, novel: 95 % for new seeds on new images" in text
    assert "of laat, simplex, novel: Student t 95 % over paired seeds" in text


def test_one_seed_is_said_to_be_one_seed(runs: dict[str, list[Path]]) -> None:
    some = [runs["at"][0], runs["laat"][0]]
    text = shown(*some, *GROUP, "--baseline", "at", "--format", "markdown")
    assert "one seed only, so neither interval nor standard deviation: at, raw; laat, raw" in text
    assert "±" not in text
    assert "which says nothing of other seeds" in text
    record = json.loads(shown(*some, *GROUP, "--baseline", "at", "--json"))
    right = [rows_of_report(read_report(path), path)[0].rows.correct()["clean"] for path in some]
    assert record["differences"][0]["low"] == pytest.approx(paired_images(*right).low)
    assert record["groups"][0]["figures"]["clean"]["sd"] is None
    # a seed without a partner is left out of the difference, and named
    text = shown(*runs["at"], *some[1:], *GROUP, "--baseline", "at", "--format", "markdown")
    assert "2 seeds of the baseline without a partner, left out of the difference: laat, raw, novel" in text


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"threat": ThreatModel(Fraction(4, 255))}, "measured differently: eps is 8/255 for 'laat-0' in"),
        ({"data": "cd"}, "measured differently: data is "),
        ({"attacks": ("fgsm",)}, "measured differently: attacks is fgsm, pgd-2 for 'laat-0'"),
        ({"lr": 0.1}, "trained differently: lr is 0.05 for 'laat-0' in "),
        ({"blend": 0.7}, "trained differently: blend is – for 'laat-0' in "),
        ({"anchors_sha256": "bb"}, "trained differently: anchors_sha256 is aa for 'laat-0'"),
    ],
)
def test_runs_that_differ_in_more_than_the_seed_are_refused(change: dict[str, Any], says: str, tmp_path: Path) -> None:
    one, other = run_report(tmp_path, "laat", 0), run_report(tmp_path, "laat", 1, **change)
    error = " ".join(refused(one, other, *GROUP).split())
    assert says in error
    entry = says.partition(": ")[2].partition(" ")[0]
    assert f"add it to --group-by: objective,anchors,{entry}" in error.replace("Add", "add")
    # named as an entry, they are groups of their own
    assert json.loads(shown(one, other, "--group-by", f"objective,{entry}", "--json"))["groups"][1]["label"][entry]


def test_models_that_answered_with_other_anchors_are_refused(tmp_path: Path) -> None:
    own = [run_report(tmp_path, name, 0, answered_with="cc") for name in LEAN]
    other = run_report(tmp_path, "laat", 1, answered_with="dd")
    says = "mixes models that answered with other anchors: cc for 'laat-0' in "
    unknown = run_report(tmp_path, "laat", 3)
    for others in ((), (unknown,)):
        assert says in " ".join(refused(*others, own[1], other, *GROUP).split())
    other = run_report(tmp_path / "other", "laat", 0, answered_with="dd")
    for others in ((), (run_report(tmp_path, "at", -1), run_report(tmp_path, "laat", -1))):
        error = " ".join(refused(*others, own[0], other, *GROUP, "--baseline", "at").split())
        assert "the difference of 'laat, raw' from 'at, raw' mixes models that answered with other anchors: cc" in error
    # anchors of models that were trained on other ones cannot be compared
    expanded = run_report(tmp_path, "laat", 2, anchors_sha256="bb", answered_with="ee")
    assert len(json.loads(shown(own[1], expanded, "--group-by", "anchors_sha256", "--json"))["groups"]) == 2
    shown(own[1], expanded, *GROUP, "--over", "seed,anchors_sha256")


def test_a_setting_that_older_reports_lack_is_named(tmp_path: Path) -> None:
    paths = [run_report(tmp_path, "laat", 0), run_report(tmp_path, "laat", 1, optimizer="sgd")]
    assert "not recorded for every run of laat, raw: optimizer" in shown(*paths, *GROUP, "--format", "markdown")
    paths.append(run_report(tmp_path, "laat", 2, optimizer="adamw"))
    assert "trained differently: optimizer is sgd for 'laat-1'" in " ".join(refused(*paths, *GROUP).split())


def test_a_report_that_does_not_record_the_training_is_named(tmp_path: Path) -> None:
    new, old = run_report(tmp_path, "laat", 0), tmp_path / "old/report.json"
    model = {"name": "old", "sha256": "old", "objective": "laat", "anchors": "text, raw"}
    save(old, {"old": 2.0}, change={"models": [model], "schema_version": 3})
    error = " ".join(refused(new, old, *GROUP).split())
    assert f"has 'old' in '{old}', a report of schema 3, which does not record the training. Evaluate the checkpoint" in error
    assert "evaluate these checkpoints again" in shown(old, *GROUP, "--format", "markdown")


def test_the_training_has_entries_that_are_called_as_those_of_the_evaluation(tmp_path: Path) -> None:
    paths = [run_report(tmp_path, "laat", 0, eps="4/255"), run_report(tmp_path, "laat", 1, eps="8/255")]
    assert "Add it to --group-by: objective,anchors,training.eps" in " ".join(refused(*paths, *GROUP).split())
    record = json.loads(shown(*paths, "--group-by", "eps,training.eps", "--json"))
    assert [list(one["label"].values()) for one in record["groups"]] == [["8/255", "4/255"], ["8/255", "8/255"]]


def test_groups_that_were_measured_differently_do_not_share_a_table(tmp_path: Path) -> None:
    paths = [run_report(tmp_path, "at", 0), run_report(tmp_path, "laat", 0, attacks=("fgsm",))]
    assert shown(*paths, *GROUP, "--format", "latex").count(r"\begin{tabular}") == 2
    error = refused(*paths, *GROUP, "--baseline", "at")
    assert "no other group was measured like the baseline 'at'" in " ".join(error.split())


def test_the_same_seed_twice_is_refused(tmp_path: Path) -> None:
    first, again = run_report(tmp_path, "laat", 0), run_report(tmp_path, "laat", 0, name="again")
    assert "has seed 0 twice: 'laat-0' in" in refused(first, again, *GROUP)
    copy = run_report(tmp_path / "copy", "laat", 0)
    assert "has the same model twice" in refused(first, copy, *GROUP)
    unknown = [run_report(tmp_path, "laat", None, name=name) for name in ("x", "y")]
    assert "models without a recorded seed" in refused(*unknown, *GROUP)


def test_the_baseline_has_the_same_eps(tmp_path: Path) -> None:
    paths = []
    for eps in (4, 8):
        threat = ThreatModel(Fraction(eps, 255))
        paths += [run_report(tmp_path / str(eps), name, 0, threat=threat) for name in LEAN]
    record = json.loads(shown(*paths, "--group-by", "objective,eps", "--baseline", "at", "--json"))
    pairs = {(one["label"]["eps"], one["baseline"]["eps"]) for one in record["differences"]}
    assert pairs == {("4/255", "4/255"), ("8/255", "8/255")}
    table = shown(*paths, "--group-by", "objective,eps", "--format", "csv")
    assert [row["eps"] for row in csv.DictReader(io.StringIO(table))] == ["4/255", "4/255", "8/255", "8/255"]


def test_episodes_are_the_units_of_a_few_shot_report(tmp_path: Path) -> None:
    paths = [run_report(tmp_path, name, seed, protocol=EPISODES) for name in LEAN for seed in range(2)]
    record = json.loads(shown(*paths, *GROUP, "--baseline", "at", "--json"))
    by_episode = [
        rows_of_report(read_report(path), path)[0].rows.correct()["clean"].reshape(EPISODES.episodes, -1).mean(1)
        for path in paths
    ]
    expected = paired_runs(np.stack(by_episode[:2]), np.stack(by_episode[2:]))
    assert record["differences"][0]["high"] == pytest.approx(expected.high)
    assert "new episodes" in record["differences"][0]["interval"]


def test_a_baseline_of_other_shots(tmp_path: Path) -> None:
    swept = Protocol("episodes", ways=2, shots=0, queries=5, episodes=12, seed=3)
    paths = [run_report(tmp_path, "at", 0, protocol=EPISODES), run_report(tmp_path, "laat", 0, protocol=swept)]
    record = json.loads(shown(*paths, "--group-by", "objective,shots", "--baseline", "objective=laat,shots=0", "--json"))
    (line, *_) = record["differences"]
    assert (line["label"], line["baseline"]) == ({"objective": "at", "shots": "1"}, {"objective": "laat", "shots": "0"})
    assert "low" in line
    assert line["interval"] == f"one pair of runs, which says nothing of other seeds: {OVER_EPISODES}"
    error = refused(*paths, "--group-by", "objective,shots", "--baseline", "laat")
    assert "no other group was measured like the baseline" in " ".join(error.split())


def test_one_pair_of_runs_whose_episodes_all_differ_alike(tmp_path: Path) -> None:
    paths = [run_report(tmp_path, "at", 0, name=name, anchors=name, protocol=EPISODES) for name in ("raw", "simplex")]
    record = json.loads(shown(*paths, *GROUP, "--baseline", "anchors=raw", "--json"))
    (line, *_) = record["differences"]
    assert line["low"] < line["difference"] == 0 < line["high"]
    assert OVER_ALIKE in line["interval"]


def test_wrong_entries_are_named(runs: dict[str, list[Path]]) -> None:
    def says(*args: object) -> str:
        return " ".join(refused(*runs["at"], *runs["laat"], *args, code=2).split())

    assert "no report records 'objektive', which --group-by names. Entries with similar names: 'objective'" in says(
        "--group-by", "objektive"
    )
    assert "which --over names" in says("--group-by", "objective", "--over", "sed")
    assert "given twice" in says("--group-by", "objective,seed")
    assert "no group is the baseline 'trades'. Groups: 'at, raw', 'laat, raw'" in says(*GROUP, "--baseline", "trades")
    assert "--baseline names 'lr', which is not in --group-by" in says(*GROUP, "--baseline", "lr=1")
    assert "means 'at, raw', 'laat, raw'" in says(*GROUP, "--baseline", "anchors=raw")
    assert "--over has no effect without --group-by" in says("--over", "seed")
    assert "does not have the tables of --group-by. Print them with --format markdown" in says(*GROUP, "--format", "html")


def test_markup_in_names_is_escaped(tmp_path: Path) -> None:
    path = run_report(tmp_path, "laat", 0, backbone="a_b & {c}|<b>=1+1")
    assert r"a\_b \& \{c\}\textbar{}$<$b$>$=1+1" in shown(path, "--group-by", "backbone", "--format", "latex")
    assert r"a\_b \& \{c\}\|\<b\>=1+1" in shown(path, "--group-by", "backbone", "--format", "markdown")
    path = run_report(tmp_path, "laat", 1, backbone="=1+1")
    assert "\n'=1+1,novel" in shown(path, "--group-by", "backbone", "--format", "csv")


def test_a_baseline_whose_value_has_an_equals_sign(tmp_path: Path) -> None:
    paths = [run_report(tmp_path, "laat", 0, backbone=name, name=name) for name in ("a=1", "b=2")]
    for wanted in ("a=1", "backbone=a=1"):
        record = json.loads(shown(*paths, "--group-by", "backbone", "--baseline", wanted, "--json"))
        assert {one["baseline"]["backbone"] for one in record["differences"]} == {"a=1"}
