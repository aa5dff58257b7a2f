from __future__ import annotations

from pathlib import Path

import pytest

from stages.anchors.sources import PUBLISHED, prompt, resolve_templates
from stages.errors import InputError, UsageError


def test_the_published_template_is_the_default() -> None:
    assert resolve_templates([], None) == ["This is a photo of a {}"] == [PUBLISHED]


def test_underscores_are_read_as_spaces() -> None:
    assert prompt(PUBLISHED, "sea_lion") == "This is a photo of a sea lion"
    # braces in a name are only text
    assert prompt("a {}", "{x} {}") == "a {x} {}"


def test_the_80_templates_of_clip() -> None:
    templates = resolve_templates([], "openai")
    assert len(templates) == len(set(templates)) == 80
    assert "a bad photo of a {}." in templates


def test_those_given_come_first_then_those_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "templates.txt"
    path.write_text("# mine\n\na drawing of a {}\n  {} in the wild \n", encoding="utf-8")
    assert resolve_templates(["a {}"], str(path)) == ["a {}", "a drawing of a {}", "{} in the wild"]


@pytest.mark.parametrize("template", ["a photo", "", "{} and {}", "{0}"])
def test_a_template_has_one_place_for_the_name(template: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"needs exactly one \{\}"):
        resolve_templates(["a {}", template], None)


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (b"a photo of it", UsageError, "exactly one"),
        (b"# none\n\n", InputError, "has no template"),
        (b"\xff\xfe\x00", InputError, "not UTF-8"),
    ],
)
def test_bad_template_files(content: bytes, error: type[Exception], message: str, tmp_path: Path) -> None:
    (tmp_path / "templates.txt").write_bytes(content)
    with pytest.raises(error, match=message):
        resolve_templates([], str(tmp_path / "templates.txt"))


def test_a_missing_template_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        resolve_templates([], str(tmp_path / "none.txt"))
