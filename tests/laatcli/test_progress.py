"""Progress in a plain log and on a terminal of 80 columns."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from laatcli import console
from laatcli.console import Console
from laatcli.predictions import Answers
from stages.prediction.predict import Batch
from stages.prediction.record import Prediction
from tests.stages.prediction.pictures import by_colour


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, to be set."""
    now = [1000.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    return now


def lines(clock: list[float], capsys: pytest.CaptureFixture[str], *, seconds: int, first: int = 0) -> list[str]:
    """The plain lines of work that takes so many seconds, one step each."""
    with Console().progress("train") as bar:
        for done in range(first, seconds + 1):
            bar.update(done, seconds, f"epoch {1 + done // 100}/9")
            clock[0] += 1
    return capsys.readouterr().err.splitlines()


def test_a_plain_line_says_what_runs_and_how_much_of_all_of_it_is_done(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    said = lines(clock, capsys, seconds=40)
    assert said[0] == "train 25% in 00:10, 00:30 left: epoch 1/9"
    assert said[2] == "train 75% in 00:30, 00:10 left: epoch 1/9"
    assert said[-1] == "train done in 00:41"
    assert lines(clock, capsys, seconds=5) == []


def test_a_long_log_stays_short(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    said = lines(clock, capsys, seconds=36_000)
    assert 100 < len(said) < 250
    assert said[-2].startswith("train 99% in 9:5")
    assert said[-1] == "train done in 10:00:01"


def test_a_resumed_run_does_not_count_what_was_done_before(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    said = lines(clock, capsys, seconds=100, first=80)
    assert said[0] == "train 90% in 00:10, 00:10 left: epoch 1/9"


def test_predict_counts_the_time_of_its_first_batch(
    clock: list[float], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    batch = Batch([Prediction("a.png", (("red", 1.0),), 1.0)], [], torch.empty(0), torch.empty(0), 0)
    with Answers(Console(), by_colour(), None, judge=False) as answers:
        answers.open(tmp_path / "a.csv", 1)
        for total in (None, 4):
            clock[0] += 20
            answers.take(batch, total)
    said = capsys.readouterr().err.splitlines()
    assert said[:2] == ["predict 1 in 00:20: 1 image", "predict 50% in 00:40, 00:40 left: 2 images"]


SCRIPT = """
import time
from laatcli.console import Console
console = Console()
note = "epoch 10/100 loss 1.234 clean 45.1% robust 22.3% 12345 img/s"
with console.progress("train") as bar:
    for done in range(4):
        bar.update(done, 4, note)
        time.sleep(0.15)
        if done == 1:
            console.note("a note that is longer than a line of the terminal, " * 2 + "and is wrapped between words")
            console.warn("careful " * 11)
            bar.line("epoch  10  loss 1.234")
"""


def test_the_bar_keeps_to_one_line_and_notes_stay_above_it() -> None:
    """Read what a terminal of 80 columns gets."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT],
        env={**os.environ, "COLUMNS": "80", "TERM": "xterm"},
        stdout=follower,
        stderr=follower,
    )
    os.close(follower)
    data = b""
    try:
        while part := os.read(leader, 65536):
            data += part
    except OSError:  # the other end is closed
        pass
    os.close(leader)
    assert process.wait() == 0
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", data.decode())
    shown = [line.rstrip() for line in re.split(r"[\r\n]+", plain) if line.strip()]
    assert max(map(len, shown)) <= 80
    bars = [line for line in shown if line.startswith("train")]
    kept = [line for line in shown if not line.startswith("train")]
    assert any(
        re.match(r"train +25% 00:0\d<00:0\d epoch 10/100 loss 1.234 clean 45.1% robust 22.3% 1\d+", line) for line in bars
    )
    assert all(re.match(r"train +\d+% \d\d:\d\d<\S+( epoch 10/100 .*)?$", line) for line in bars)
    assert kept == [
        "a note that is longer than a line of the terminal, a note that is longer than a",
        "line of the terminal, and is wrapped between words",
        "warning: careful careful careful careful careful careful careful careful careful",
        "careful careful",
        "epoch  10  loss 1.234",
    ]
