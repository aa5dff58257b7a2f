"""What a comparison says: which of the two is better, by how much, and whether the interval excludes 0."""

from __future__ import annotations

from stages.reports.compare import Comparison, comparison_tables
from stages.reports.measures import Measure
from stages.statistics.paired import Paired


def test_the_better_one_is_named_with_its_lead() -> None:
    def made(name: str, low: float, high: float) -> Measure:
        paired = Paired((low + high) / 2, low, high, 0.01)
        over = None if name == "fgsm" else Paired((low + high) / 2, low - 0.1, high + 0.1, 0.5)
        return Measure(("last", "last"), "novel", "all-way", name, (0.5, 0.5), paired, (1, 2), 9, 0, "an interval", over)

    measures = [made("clean", 0.02, 0.04), made("fgsm", -0.3, -0.1), made("pgd-2", -0.01, 0.01), made("worst", 1e-9, 0.1)]
    found = Comparison(measures, [], ["raw/report.json", "expanded/report.json"])
    assert [one.better for one in measures] == ["B", "A", None, "B"]
    assert [one["better"] for one in found.to_record()["results"]] == ["B", "A", None, "B"]
    (table,) = comparison_tables(found)
    assert table.title == "accuracy %: A is last in raw/report.json, B is last in expanded/report.json"
    assert table.notes[:3] == (
        "A is better, the 95 % interval excludes 0: novel fgsm by 20.0 points",
        "B is better, the 95 % interval excludes 0: novel clean by 3.0, novel worst by 5.0 points",
        "the 95 % interval contains 0: novel pgd-2",
    )
    assert (
        "for other classes than these (novel): clean +3.0 [−8.0, +14.0], pgd-2 0.0 [−11.0, +11.0], worst +5.0 [−10.0, +20.0]; "
        "mean over the classes, each counting alike [Student t 95 %]"
    ) in table.notes
