"""The table of a comparison."""

from __future__ import annotations

from stages.evaluate.compare import OVER_EPISODES, OVER_IMAGES, Comparison
from stages.report.tables import Cell, Chance, Difference, FigureTable, Percent


def comparison_tables(found: Comparison) -> list[FigureTable]:
    """One table for each pair of models: A, B, B minus A in percentage points, and p."""
    pairs = list(dict.fromkeys(measure.models for measure in found.measures))
    return [_table(found, pair) for pair in pairs]


def _table(found: Comparison, pair: tuple[str, str]) -> FigureTable:
    measures = [measure for measure in found.measures if measure.models == pair]
    several = len({measure.protocol for measure in measures}) > 1
    rows: list[tuple[Cell, ...]] = [
        (
            measure.group,
            *([measure.protocol] if several else []),
            measure.measure,
            *map(Percent, measure.accuracies),
            Difference(measure.paired.difference, measure.paired.low, measure.paired.high),
            Chance(measure.paired.p),
            *measure.only,
        )
        for measure in measures
    ]
    first = measures[0]
    size = f"{first.episodes:,} episodes" if first.episodes else "every image of a group once"
    return FigureTable(
        f"accuracy %: A is {pair[0]}, B is {pair[1]}",
        ("classes", *(["protocol"] if several else []), "measure", "A", "B", "B − A", "p", "only A", "only B"),
        tuple(rows),
        (
            f"[ ] {OVER_EPISODES if first.episodes else OVER_IMAGES}; {size}",
            "only A, only B: decisions that one alone got right",
            *(f"note: {note}" for note in found.notes),
        ),
    )
