"""Requirements on the figures of a report, such as "worst>=30": a gate for continuous integration. No torch."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from stages.errors import RequirementError, UsageError, nearest
from stages.reports.records import Report, Result
from stages.reports.rows import CLEAN, WORST
from stages.statistics.gzsl import GzslFigures
from stages.text import counted, listed

_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
_FORM = re.compile(
    r"\s*(?:(?P<end>lower|upper)\s+bound\s+of\s+)?(?P<measure>[^<>=\s](?:[^<>=]*[^<>=\s])?)\s*(?P<sign>>=|<=|>|<)\s*"
    r"(?P<percent>\d{1,3}(?:\.\d{1,9})?)\s*(?P<unit>%?)\s*",
    re.IGNORECASE,
)
_HOW = 'write it in percent, for example "worst>=30", "clean>=60", "pgd-20>=35" or "lower bound of worst>=28"'
_HOW_GZSL = '; also "worst H>=10", and at the fitted bias "worst at the bias>=30" or "worst H at the bias>=10"'
_SIDES = ("S", "U", "H", "AUSUC")
_AT_BIAS = " at the bias"
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Requirement:
    """A bound on one figure of every result.

    Attributes:
        text: as it was written.
        measure: 'clean', 'worst' or an attack; with seen and novel classes together also 'worst H' and so on, and 'worst H at
            the bias' for the bias of the calibration.
        end: which end of the 95 % interval is meant, 'low' or 'high'; None for the accuracy itself.
        sign: >=, <=, > or <.
        percent: the bound.
    """

    text: str
    measure: str
    end: str | None
    sign: str
    percent: float

    def holds(self, found: Figure) -> bool:
        """Whether the figure meets it; a difference of rounding counts as none."""
        value = 100 * {None: found.value, "low": found.low, "high": found.high}[self.end]
        value = self.percent if abs(value - self.percent) < _ROUNDING else value
        return _OPERATORS[self.sign](value, self.percent)


@dataclass(frozen=True)
class Figure:
    """A figure of a result and its interval, fractions of 1."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{100 * self.value:.2f} [{100 * self.low:.2f}, {100 * self.high:.2f}]"


def parse_requirements(texts: Sequence[str], attacks: Sequence[str], *, gzsl: bool = False) -> list[Requirement]:
    """The requirements, checked against what an evaluation measures.

    Args:
        texts: `[lower|upper bound of ]MEASURE(>=|<=|>|<)PERCENT`, for example "worst>=30".
        attacks: the names of the attacks that are run.
        gzsl: whether S, U, H and AUSUC are measured, for "worst H>=10" and "worst H at the bias>=10". Without "at the bias" a
            requirement is on the results at bias 0 alone.

    Raises UsageError for another form, a share in place of a percentage, and a measure that the report will not have.
    """
    measures = [CLEAN, *attacks, *([WORST] if attacks else [])]
    if gzsl:
        measures += [f"{name} {side}" for name in measures for side in _SIDES]
        measures += [f"{name}{_AT_BIAS}" for name in measures if not name.endswith("AUSUC")]
    return [_parse(text, {name.casefold(): name for name in measures}, gzsl=gzsl) for text in texts]


def _parse(text: str, measures: dict[str, str], *, gzsl: bool) -> Requirement:
    found = _FORM.fullmatch(text)
    if found is None:
        raise UsageError(f"--require '{text}' is not a requirement", _HOW + _HOW_GZSL * gzsl)
    name, percent = " ".join(found["measure"].split()), float(found["percent"])
    if percent > 100:
        raise UsageError(f"--require '{text}' asks for {percent:g} %", "no accuracy is above 100 %")
    if 0 < percent < 1 and not found["unit"]:
        fix = f"write {name}{found['sign']}{100 * percent:g}, or {name}{found['sign']}{percent:g}% if you mean it"
        raise UsageError(f"--require '{text}' looks like a fraction, and requirements are in percent", fix)
    if name.casefold() not in measures:
        raise UsageError(
            f"--require '{text}' is about '{name}', which this evaluation does not measure", _known(name, measures, gzsl)
        )
    end = {None: None, "lower": "low", "upper": "high"}[found["end"] and found["end"].lower()]
    return Requirement(text.strip(), measures[name.casefold()], end, found["sign"], percent)


def _known(name: str, measures: dict[str, str], gzsl: bool) -> str:
    if name.casefold() == WORST:
        return "no attack is run: add --attack or --suite, or require 'clean'"
    if name.rsplit(maxsplit=1)[-1].upper() in _SIDES and not gzsl:
        return "S, U, H and AUSUC are measured with --protocol gzsl"
    plain = [one for one in measures.values() if not one.endswith((*(f" {side}" for side in _SIDES), _AT_BIAS))]
    known = f"it measures {listed(plain)}"
    if gzsl:
        one = plain[-1]
        known += f", each also as '{one} S', '{one} U', '{one} H' and '{one} AUSUC'"
        known += f"; at the fitted bias '{one}{_AT_BIAS}', '{one} H{_AT_BIAS}' and so on"
    return known if len(measures) < 12 else f"nearest: {nearest(name, measures.values())}; {known}"


def require(report: Report, texts: Sequence[str]) -> None:
    """Raise RequirementError, with every figure that misses and its interval, unless all results meet all requirements.

    `texts` are as for `parse_requirements`, which says what else is raised.
    """
    wanted = parse_requirements(texts, list(report.results[0].attacks), gzsl=report.results[0].gzsl is not None)
    found = [text for one in wanted for text in _misses(report, one)]
    missed = [text for text in found if text]
    if missed:
        what = f"{len(missed)} of {counted(len(found), 'required figure')} missed: {'; '.join(missed)}"
        raise RequirementError(what, "figures are in percent with their 95 % interval; the report was written")


def met_text(report: Report, texts: Sequence[str]) -> str:
    """The sentence for a report that meets requirements; it says where they leave out the results at a fitted bias."""
    biased = any(result.gzsl is not None and result.gzsl.bias is not None for result in report.results)
    where = " at bias 0" if biased else ""
    named = (text if _AT_BIAS in text.casefold() else f"{text}{where}" for text in texts)
    return f"every model and group meets {', '.join(named)}"


def _misses(report: Report, wanted: Requirement) -> Iterator[str]:
    """For each figure that is required what it misses, or ''."""
    by_protocol = len({result.protocol for result in report.results}) > 1
    for model, group in dict.fromkeys((result.model, result.group) for result in report.results):
        own = [(one, figures_of(one)) for one in report.results if (one.model, one.group) == (model, group)]
        of_measure = [(one, found[wanted.measure]) for one, found in own if wanted.measure in found]
        if not of_measure:
            yield f"{wanted.text} ({model}, {group}: the checkpoint has no fitted bias)"
        for result, figure in of_measure:
            where = ", ".join((model, group, *[result.protocol] * by_protocol))
            yield "" if wanted.holds(figure) else f"{wanted.text} ({where}: {wanted.measure} {figure})"


def figures_of(result: Result) -> dict[str, Figure]:
    """The figures of a result by the names that requirements have for them."""
    estimates = {CLEAN: result.clean, **result.attacks, WORST: result.worst}
    found = {name: Figure(one.accuracy, one.low, one.high) for name, one in estimates.items()}
    if result.gzsl is not None:
        parts: dict[str, GzslFigures] = {CLEAN: result.gzsl.clean, **result.gzsl.attacks, WORST: result.gzsl.worst}
        for name, part in parts.items():
            for side in ("S", "U", "H"):
                one = getattr(part, side)
                found[f"{name} {side}"] = Figure(one.accuracy, one.low, one.high)
            if part.ausuc is not None:
                found[f"{name} AUSUC"] = Figure(part.ausuc.area, part.ausuc.low, part.ausuc.high)
        if result.gzsl.bias is not None:
            return {f"{name}{_AT_BIAS}": one for name, one in found.items()}
    return found
