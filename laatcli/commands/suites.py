"""`laat suites`: the named sets of attacks, explained."""

from __future__ import annotations

from typing import Annotated

import typer

from laatcli.console import Column, Console
from stages.attacks.spec import AttackSpec, EnsembleSpec
from stages.attacks.suites import SUITES, Suite, find_suite

EXAMPLES = ("laat suites", "laat suites aa-few-class")


def suites(
    console: Console,
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Explain this one.", show_default=False)] = None,
) -> None:
    """List the suites for laat eval --suite, or explain one: attacks, steps, losses, source."""
    if name is not None:
        suite = find_suite(name)
        console.result(suite.to_record())
        _explain(console, suite)
        return
    console.result({"suites": [suite.to_record() for suite in SUITES.values()]})
    console.table(
        [Column("suite"), Column("attacks"), Column("classes"), Column("what for")],
        [[suite.label, ", ".join(suite.attacks), f"≥ {suite.least_classes}", suite.why] for suite in SUITES.values()],
    )
    console.line("laat suites NAME explains one; laat eval --suite NAME runs it")


def _explain(console: Console, suite: Suite) -> None:
    console.line(f"{suite.label}: {suite.why}")
    console.table(
        [Column("attack"), Column("loss"), Column("steps", True), Column("restarts", True), Column("targets"), Column("step")],
        [_row(spec) for spec in suite.specs()],
    )
    console.line(f"source: {suite.source}")
    console.line(f"candidate classes: at least {suite.least_classes}")
    for remark in suite.remarks:
        console.line(f"note: {remark}")


def _row(spec: AttackSpec) -> list[str]:
    record = spec.to_record()
    step = "its own" if isinstance(spec, EnsembleSpec) else record["step"]
    return [spec.name, spec.loss, f"{spec.steps:,}", str(record["restarts"]), record.get("targets") or "", step]
