"""`laat push` and `laat pull` against a stand-in of the hub."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer
from huggingface_hub import ModelCard, constants

import stages as laat
from stages.errors import UsageError
from stages.exchange.open_model import demo_checkpoint
from stages.files import artifacts
from stages.files.artifacts import Artifact
from tests.laatcli.conftest import Pipeline
from tests.laatcli.inside import inside
from tests.laatcli.shell import Done, check_refusal, tree
from tests.stages.exchange.hub_server import Hub, connected

NAME = "someone/a-model"
FILES = {"model.st", "anchors.st", "report.json", "report.rows.parquet", "README.md"}


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    with connected(tmp_path / "hub-cache") as found:
        yield found


@pytest.fixture
def here(tmp_path: Path) -> Path:
    (tmp_path / "here").mkdir()
    return tmp_path / "here"


def push(pipeline: Pipeline, *more: object, license: str = "mit", name: str = NAME) -> Done:
    return inside(pipeline.folder, "push", "run/model.st", name, "--license", license, *more)


def with_report(pipeline: Pipeline, *more: object) -> Done:
    return push(pipeline, "--report", "report.json", *more)


def test_what_is_pushed_is_pulled_and_opened_again(pipeline: Pipeline, hub: Hub, here: Path) -> None:
    done = with_report(pipeline, "--json")
    assert done.code == 0, done.stderr
    record = json.loads(done.stdout)
    assert {one["file"] for one in record["files"]} == FILES
    assert record["url"] == f"{hub.url}/{NAME}/commit/{hub.repos[NAME].history[-1][0]}"
    assert hub.files(NAME) == {**hub.files(NAME), "model.st": pipeline.model.read_bytes(), "README.md": record["card"].encode()}
    (result,) = json.loads((pipeline.folder / "report.json").read_text())["results"]
    values = [one.metric_value for one in ModelCard(record["card"]).data.eval_results]
    assert values[0] == round(100 * result["clean"]["accuracy"], 2)
    assert values[-1] == round(100 * result["worst"]["accuracy"], 2)

    done = inside(here, "pull", NAME)
    assert done.code == 0, done.stderr
    assert "the report is of this checkpoint and agrees with its rows" in done.stdout
    assert tree(here / "a-model") == hub.files(NAME)
    # the anchors are those that the checkpoint was trained with
    assert (here / "a-model/anchors.st").read_bytes() == (pipeline.folder / "expanded.st").read_bytes()
    again = inside(here, "pull", NAME, "--json")
    assert (again.code, json.loads(again.stdout)["up_to_date"]) == (0, True)
    report = inside(here / "a-model", "report", "report.json")
    assert report.code == 0, report.stderr


def test_a_dry_run_shows_the_card_and_asks_nobody(pipeline: Pipeline, hub: Hub) -> None:
    done = with_report(pipeline, "--dry-run")
    assert done.code == 0, done.stderr
    assert done.stdout.startswith("---\nlibrary_name: laat\nlicense: mit\n")
    assert f"# {NAME}" in done.stdout
    assert f"model.st  {pipeline.model.stat().st_size:,} bytes" in done.stderr
    assert not hub.asked


def test_a_repository_that_exists_gets_a_new_commit(pipeline: Pipeline, hub: Hub) -> None:
    first = hub.add(NAME, {"model.st": b"old", "old.rows.parquet": b"of an old report", "notes.txt": b"mine"})
    done = push(pipeline)
    assert done.code == 0, done.stderr
    assert "warning: no report: the model card says that nothing was measured" in done.stderr
    assert "the repository existed: a new commit (replaced model.st; removed old.rows.parquet; kept notes.txt)" in done.stderr
    assert set(hub.files(NAME)) == {"model.st", "anchors.st", "README.md", "notes.txt"}
    old = hub.repos[NAME].at(first)
    assert old is not None
    assert old[1]["model.st"] == b"old"


def test_private(pipeline: Pipeline, hub: Hub) -> None:
    assert push(pipeline, "--private").code == 0
    assert hub.repos[NAME].private
    hub.add("someone/public", {})
    check_refusal(push(pipeline, "--private", name="someone/public"), 2, "'someone/public' is public already")
    assert not hub.files("someone/public")


def test_what_is_not_pushed(pipeline: Pipeline, hub: Hub, tmp_path: Path) -> None:
    read = artifacts.read(pipeline.model, "model")
    other = tmp_path / "other.st"
    artifacts.write(Artifact(read.kind, read.tensors, {**read.params, "note": "another"}, read.inputs), other)
    edited = tmp_path / "edited.json"
    edited.write_text((pipeline.folder / "report.json").read_text().replace('"seed": 0', '"seed": 1'))
    run = pipeline.folder / "run/model.st"
    for line, code, says in (
        ((run, NAME), 2, "a model is published under a licence, and none was given. Add --license: mit"),
        ((run, NAME, "--license", "My own!"), 2, "'My own!' is not the hub's identifier of a licence"),
        ((run, NAME, "--license", "apache2"), 2, "Write it as the hub does, for example 'apache-2.0'"),
        ((run, "no org", "--license", "mit"), 2, "'no org' is not the name of a hub repository"),
        ((run, f"{NAME}@v1", "--license", "mit"), 2, "names a revision"),
        (("clip:ViT-B-32/openai", NAME, "--license", "mit"), 2, "`laat import FILE -o model.st`"),
        (("nothing.st", NAME, "--license", "mit"), 3, "'nothing.st' does not exist"),
        ((pipeline.folder / "anchors.st", NAME, "--license", "mit"), 3, "kind anchors, expected model"),
        (
            (other, NAME, "--license", "mit", "--report", pipeline.folder / "report.json"),
            3,
            "is of another model: it is of run",
        ),
        ((run, NAME, "--license", "mit", "--report", edited), 3, "was damaged or edited"),
    ):
        check_refusal(inside(tmp_path, "push", *line), code, says)
    assert not hub.asked


def test_what_only_the_hub_refuses_leaves_no_repository(pipeline: Pipeline, hub: Hub) -> None:
    done = push(pipeline, license="gfdl")  # which the stand-in does not know
    assert done.code == 3
    assert f"the hub refuses '{NAME}'" in done.stderr
    assert "must be one of mit" in done.stderr
    assert not hub.repos


def test_an_upload_that_is_answered_with_an_error(hub: Hub, monkeypatch: pytest.MonkeyPatch, here: Path) -> None:
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)  # of which the stand-in has nothing
    done = inside(here, "push", "demo", NAME, "--license", "MIT")
    assert done.code == 4
    assert f"the hub at {hub.url} answers with an error: " in done.stderr
    assert "404 Not Found" in done.stderr
    assert "set HF_HUB_DISABLE_XET=1" in done.stderr


def test_in_python_a_file_is_published_not_a_classifier(hub: Hub) -> None:
    with pytest.raises(UsageError, match="give the path of its checkpoint"):
        laat.push(laat.load("demo"), NAME, license="mit")  # type: ignore[arg-type]
    assert not hub.asked


def test_a_published_checkpoint_is_published_elsewhere(hub: Hub, here: Path) -> None:
    done = inside(here, "push", "demo", NAME, "--license", "MIT")
    assert done.code == 0, done.stderr
    assert "license: mit" in hub.files(NAME)["README.md"].decode()
    done = inside(here, "push", f"hf-hub:{NAME}", "hf-hub:another/name", "--license", "mit")
    assert done.code == 0, done.stderr
    assert "use it: laat predict hf-hub:another/name FILES, or laat pull another/name" in done.stdout.splitlines()
    assert hub.files("another/name")["model.st"] == demo_checkpoint().read_bytes()
    hub.add("a/b", {"open_clip_config.json": b"{}"})
    check_refusal(inside(here, "push", "hf-hub:a/b", NAME, "--license", "mit"), 3, "'a/b' has no model.st")


def test_a_report_without_its_rows_is_not_pushed(pipeline: Pipeline, hub: Hub, here: Path) -> None:
    shutil.copy(pipeline.folder / "report.json", here)
    line = ("push", pipeline.model, NAME, "--license", "mit", "--report", "report.json")
    check_refusal(inside(here, *line), 3, "report.rows.parquet', the rows of 'report.json', does not exist")
    data = (pipeline.folder / "report.rows.parquet").read_bytes()
    (here / "report.rows.parquet").write_bytes(data[:-9] + b"x" + data[-8:])
    assert inside(here, *line).code == 3
    assert not hub.asked


def test_without_a_token_or_a_network(pipeline: Pipeline, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    done = push(pipeline)
    assert done.code == 4
    assert f"the hub has no repository '{NAME}' that you may write" in done.stderr
    assert "`hf auth login`, or set HF_TOKEN to a token with write access" in done.stderr
    monkeypatch.delenv("HF_TOKEN")
    assert "publishing needs an account of the hub. Log in with `hf auth login`, or set HF_TOKEN" in push(pipeline).stderr
    monkeypatch.setenv("HF_TOKEN", "hf_any")
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    check_refusal(inside(pipeline.folder, "pull", NAME), 4, "the hub at http://127.0.0.1:9 cannot be reached", "HF_ENDPOINT")


def test_what_is_not_pulled(pipeline: Pipeline, hub: Hub, here: Path) -> None:
    for name in ("no org", "a/b?x"):
        check_refusal(inside(here, "pull", name), 2, "is not the name of a hub repository")
    assert not hub.asked
    check_refusal(inside(here, "pull", NAME), 4, "that you may read")
    hub.add(NAME, {"open_clip_config.json": b"{}"})
    check_refusal(inside(here, "pull", NAME), 3, "has no model.st")

    assert with_report(pipeline).code == 0
    good = hub.files(NAME)
    whole = bytearray(good["model.st"])
    whole[-1] ^= 1
    other = artifacts.read(pipeline.model, "model")
    params = {**other.params, "note": "another"}
    changed = artifacts.to_bytes(Artifact(other.kind, other.tensors, params, other.inputs))
    for change, says in (
        ({"model.st": bytes(whole)}, "was damaged or edited after it was written"),
        ({"model.st": changed}, "is of another model than its model.st"),
        ({"anchors.st": (pipeline.folder / "anchors.st").read_bytes()}, "has other anchors than its model.st"),
        ({"report.json": good["report.json"].replace(b'"seed": 0', b'"seed": 1')}, "was damaged or edited"),
        ({"report.rows.parquet": good["report.rows.parquet"][:-9]}, "report.rows.parquet"),
    ):
        hub.add(NAME, {**good, **change})
        done = inside(here, "pull", NAME)
        assert done.code == 3, done
        assert says in done.stderr.splitlines()[-1], done.stderr
        assert not tree(here)


def test_pull_replaces_nothing(pipeline: Pipeline, hub: Hub, here: Path) -> None:
    assert push(pipeline).code == 0
    (here / "mine").mkdir()
    (here / "mine/README.md").write_text("mine")
    done = inside(here, "pull", NAME, "-o", "mine")
    assert done.code == 2
    assert "'mine/README.md' exists and is another file. Choose another folder with -o" in done.stderr
    assert tree(here) == {"mine/README.md": b"mine"}


def test_an_older_revision(pipeline: Pipeline, hub: Hub, here: Path) -> None:
    assert with_report(pipeline).code == 0
    first = hub.repos[NAME].history[-1][0]
    hub.add(NAME, {"README.md": b"emptied"})
    for line in ((NAME, "--revision", first), (f"{NAME}@{first}",)):
        done = inside(here, "pull", *line)
        assert done.code == 0, done.stderr
        assert set(tree(here / "a-model")) == FILES
    check_refusal(inside(here, "pull", NAME, "--revision", "v9"), 3, f"'{NAME}' has no revision 'v9'")


def test_a_terminal_is_asked_for_the_licence(pipeline: Pipeline, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(typer, "prompt", lambda text, err: asked.append(text) or " mit ")
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: True))
    done = inside(pipeline.folder, "push", "run/model.st", NAME, "--dry-run")
    assert done.code == 0, done.stderr
    assert "\nlicense: mit\n" in done.stdout
    assert "Licence of the model (mit, apache-2.0" in asked[0]
    check_refusal(inside(pipeline.folder, "push", "run/model.st", NAME, "--json"), 2, "add --license".capitalize())


def test_the_card_has_the_figures_of_this_model_alone(pipeline: Pipeline, hub: Hub, here: Path) -> None:
    read = artifacts.read(pipeline.model, "model")
    artifacts.write(Artifact(read.kind, read.tensors, {**read.params, "note": "another"}, read.inputs), here / "other.st")
    data = ("--data", pipeline.photos, "--attack", "none", "--rows", "none")
    assert inside(here, "eval", pipeline.model, "other.st", *data).code == 0
    done = inside(here, "push", "other.st", NAME, "--license", "mit", "--report", "report.json")
    assert done.code == 0, done.stderr
    card = hub.files(NAME)["README.md"].decode()
    assert "| other | novel |" in card
    assert "| run | novel |" not in card
    assert "Robustness: no attack was run." in card
    assert set(hub.files(NAME)) == {"model.st", "anchors.st", "report.json", "README.md"}
    done = inside(here, "pull", NAME, "-o", "pulled")
    assert "its rows are not there to compare it with" in done.stdout
