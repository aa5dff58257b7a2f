"""The metadata at the head of a model card: licence, task, tags, and the figures of a report as a `model-index`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stages.reports.records import Report, Result
from stages.text import texts_in, visible

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

TASK = "zero-shot-image-classification"
LIBRARY = "laat"
_TAGS = ["laat", "adversarial-robustness", "zero-shot", "arxiv:2301.13096"]


def card_metadata(name: str, license: str, report: Report | None) -> str:
    """The metadata as YAML, without the lines around it.

    Args:
        name: of the model in the index.
        license: its identifier on the hub, such as 'mit'.
        report: of this model alone; None if nothing was measured.
    """
    from huggingface_hub import ModelCardData

    figures = [] if report is None else [one for result in report.results for one in _figures(report, result)]
    data = ModelCardData(
        license=license,
        library_name=LIBRARY,
        pipeline_tag=TASK,
        tags=list(_TAGS),
        metrics=["accuracy"] if figures else None,
        model_name=visible(name),
        eval_results=figures or None,
    )
    if not figures:
        data.pop("model_name")
    return data.to_yaml()


def _figures(report: Report, result: Result) -> list[EvalResult]:
    """One entry per accuracy of a result, in percent, with its interval and how it was measured."""
    from huggingface_hub import EvalResult

    threat: dict[str, Any] = {}
    if report.threat is not None:
        threat = {"norm": report.threat.norm, "eps": report.threat.eps, "knowledge": report.knowledge}
    how = {"suite": report.suite, "protocol": result.protocol, "classes": result.group, "ways": result.ways}
    found = []
    for name, one in result.shares().items():
        under = threat if name != "clean" else {}
        interval = {"low": _percent(one.low), "high": _percent(one.high), "interval": result.interval}
        args: dict[str, Any] = {key: value for key, value in {**interval, **how, **under}.items() if value is not None}
        found.append(
            EvalResult(
                task_type=TASK,
                dataset_type=visible(report.data.source),
                dataset_name=visible(report.data.source),
                dataset_split=_splits(report),
                metric_type="accuracy",
                metric_name=visible(f"{metric_name(name)} (%), {result.group} classes, {result.protocol}"),
                metric_value=_percent(one.accuracy),
                metric_args=texts_in(args, visible),
            )
        )
    return found


def metric_name(name: str) -> str:
    """How a figure of a report is called in full."""
    return {"clean": "clean accuracy", "worst": "worst-case accuracy"}.get(name, f"robust accuracy under {name}")


def _splits(report: Report) -> str | None:
    splits = report.data.to_record().get("splits") or []
    return ", ".join(map(visible, splits)) or None


def _percent(share: float) -> float:
    return round(100 * share, 2)
