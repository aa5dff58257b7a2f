"""`laat report --format html`."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.laatcli.conftest import Pipeline
from tests.laatcli.inside import inside
from tests.laatcli.shell import check_refusal, tree


class _Page(HTMLParser):
    """The headings of a page, and every address that it loads or links to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.attributes: set[str] = set()
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}
        self.addresses += [value or "" for name, value in attrs if name in ("src", "srcset", "href")]


def test_a_page_of_everything(pipeline: Pipeline, tmp_path: Path) -> None:
    here, weaker = pipeline.folder, tmp_path / "eps4.json"
    attacks = ("--attack", "fgsm", "--attack", "pgd-2", "--no-checks", "--eps", "4/255")
    done = inside(here, "eval", "run/model.st", "--data", pipeline.photos, *attacks, "-o", weaker)
    assert done.code == 0, done.stderr
    beside = ("--run", here / "run", "--adversarial", here / "adversarial.st", "--images", 5, "--data", pipeline.photos)
    done = inside(tmp_path, "report", here / "report.json", weaker, "--format", "html", *beside, "-o", "page.html", "--json")
    assert done.code == 0, done.stderr
    said, data = json.loads(done.stdout), (tmp_path / "page.html").read_bytes()
    assert said["output"] == "page.html"
    assert said["security_curves"] == 1
    assert said["learning_curves"]
    assert 3 <= said["images"] <= 3 * 5
    assert said["bytes"] == len(data) < 3e6
    page = _Page(data.decode())
    assert all(one.startswith(("data:image/", "#")) for one in page.addresses)
    assert page.tags.count("script") == 1
    assert not any(name.startswith("on") or name == "style" for name in page.attributes)
    text = data.decode()
    model = json.loads((here / "report.json").read_text())["models"][0]["sha256"]
    for part in (
        *("White-box: the attacker knows the whole model", "by at most 8/255", "pgd-2: cross-entropy, 2 steps of 1/4 eps"),
        *("clean passes", "accuracy % over eps (Linf)", "runs at their best epoch"),
        *("laat eval run/MODEL.st --data photos", "--attack fgsm --attack pgd-2 --norm linf --eps 4/255", model),
        *("stands for the checkpoint with SHA-256", "Clean images alone"),
        *(
            "Each image from left to right: clean, attacked, difference.",
            "each by the margin in",
            "(cosine, or logit of a few-shot head",
        ),
    ):
        assert part in text, part


@pytest.mark.parametrize(
    "unlike",
    [
        ("--attack", "pgd-2", "--max-per-class", 1),
        ("--attack", "fgsm"),
        ("--attack", "pgd-2", "--eps", "4/255"),
        ("--attack", "pgd-2", "--seed", 1),
    ],
)
def test_images_without_a_margin_for_each_have_no_order_by_margin(
    unlike: tuple[object, ...], pipeline: Pipeline, tmp_path: Path
) -> None:
    evaluate = ("eval", "run/model.st", "--data", pipeline.photos, "--no-checks", *unlike)
    done = inside(pipeline.folder, *evaluate, "-o", tmp_path / "part.json")
    assert done.code == 0, done.stderr
    saved = pipeline.folder / "adversarial.st"
    done = inside(tmp_path, "report", "part.json", "--format", "html", "--adversarial", saved, "--images", 5, "-o", "-")
    assert done.code == 0, done.stderr
    assert "of both kinds, drawn by seed" in done.stdout
    assert "each as in the file. Give a report of the same model, threat model and attack on all of these" in done.stdout
    assert "margin in" not in done.stdout


def test_a_leaderboard_and_a_run_beside_the_report(pipeline: Pipeline, tmp_path: Path) -> None:
    report = pipeline.folder / "report.json"
    done = inside(tmp_path, "report", report, "--leaderboard", "board.jsonl", "--format", "html")
    assert done.code == 0, done.stderr
    assert "report.html: tables, charts, checks and lineage of 1 file" in done.stdout
    text = (tmp_path / "report.html").read_text()
    assert inside(tmp_path, "report", "board.jsonl", "--format", "html", "-o", "again.html").code == 0
    assert (tmp_path / "again.html").read_text() == text
    assert "rank" in text
    assert "Learning curves" not in text
    beside = pipeline.folder / "run/report.json"
    beside.write_bytes(report.read_bytes())
    try:
        done = inside(tmp_path, "report", beside, "--format", "html", "-o", "-")
    finally:
        beside.unlink()
    assert done.stdout.startswith("<!doctype html>")
    assert "Learning curves" in done.stdout
    assert "a page" not in done.stdout


def test_what_does_not_go_with_a_page(pipeline: Pipeline, tmp_path: Path) -> None:
    report, run = pipeline.folder / "report.json", pipeline.folder / "run"
    html = ("--format", "html")
    before = tree(tmp_path)
    for line, code, *says in (
        ((report, "-o", "page.html"), 2, "--output has no effect without a page", "--format html"),
        ((report, "--run", run), 2, "--run has no effect without a page"),
        ((report, *html, "-o", report), 2, "would replace"),
        ((report, *html, "--run", run, "--run", f"{run}/"), 2, "is given twice"),
        ((report, *html, "--run", tmp_path), 3, "no epoch was finished there"),
        ((report, *html, "--adversarial", pipeline.folder / "anchors.st"), 3, "kind anchors, expected adversarial"),
        ((report, *html, "--images", 0), 2, "--images is 0"),
        ((report, *html, "--images", 5), 2, "--images has no effect without images", "Add --adversarial or --data"),
        ((report, *html, "--data", "shapes"), 3, "'shapes' has no image", "Give the data of the report"),
        ((report, "--format", "htm"), 2, "Known formats: table, markdown, csv, latex, html"),
        (html, 2, "no report was given"),
    ):
        check_refusal(inside(tmp_path, "report", *line), code, *says)
    assert tree(tmp_path) == before
