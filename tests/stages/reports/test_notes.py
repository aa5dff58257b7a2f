"""Notes stay with the models, groups and protocols that they are about."""

from __future__ import annotations

from stages.reports.notes import merged_notes
from stages.reports.parts import part_of
from stages.reports.records import Report
from stages.reports.report_tables import report_tables
from tests.stages.reports.test_leaderboard import added, of
from tests.stages.reports.test_report import report

NOTES = ["sampled", "novel: 1 of 4 classes were trained on (b)", "seen: unknown", "3-shot: (odd), not a model"]


def of_two_models() -> Report:
    """Models a and b on the groups novel and seen, and a with another protocol."""
    found = report()
    keys = [("a", "novel", "all-way"), ("b", "novel", "all-way"), ("a", "seen", "all-way"), ("b", "seen", "3-shot")]
    results = [
        found.results[0].model_copy(update={"model": model, "group": group, "protocol": protocol})
        for model, group, protocol in keys
    ]
    models = [found.models[0].model_copy(update={"name": name, "sha256": name * 64}) for name in "ab"]
    return found.model_copy(update={"models": models, "results": results, "notes": NOTES})


def test_notes_that_do_not_hold_for_every_model_name_theirs() -> None:
    found = merged_notes({"a": ["both", "some"], "b": ["both"], "c": ["both", "some"]})
    assert found == ["both", "some (a, c)"]


def test_a_part_has_the_notes_on_its_results() -> None:
    whole = of_two_models()
    for model, group, notes in (
        ("a", "novel", ["sampled"]),
        ("b", "novel", ["sampled", "novel: 1 of 4 classes were trained on"]),
        ("a", "seen", ["sampled", "seen: unknown"]),
        ("b", "seen", ["sampled", "seen: unknown", "3-shot: (odd), not a model"]),
    ):
        assert part_of(whole, lambda one, key=(model, group): (one.model, one.group) == key).notes == notes  # type: ignore[misc]
    assert part_of(whole, lambda one: one.group == "novel").notes == NOTES[:2]
    assert part_of(whole, lambda one: True).notes == NOTES


def test_a_note_on_one_line_of_a_table_names_it() -> None:
    reports = [of("a", 1, notes=["sampled", "unknown"]), of("b", 2, notes=["sampled"])]
    (table,) = added(*reports).tables()
    assert table.notes[-2:] == ("note: sampled", "note: unknown (rank 2)")
    (table,) = report_tables({"a.json": reports[0], "b.json": reports[1]})
    assert table.notes[-2:] == ("note: sampled", "note: unknown (report a.json)")
