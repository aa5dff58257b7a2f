"""Prompt templates: the published one, open_clip's ImageNet set, or a file of the user's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from stages.artifacts import read_file
from stages.errors import InputError, UsageError

PUBLISHED = "This is a photo of a {}"


def resolve_templates(given: Sequence[str], preset: str | None) -> list[str]:
    """The templates to use: those given one by one, then those of the preset ('openai' or a file); the published one if none.

    Raises UsageError for a template without `{}`, InputError for an unreadable file.
    """
    templates = list(given)
    if preset == "openai":
        templates += _openai_templates()
    elif preset is not None:
        templates += _read_template_file(Path(preset))
    for template in templates:
        if template.count("{}") != 1:
            raise UsageError(f"template '{template}' needs exactly one {{}}", "put {} where the class name goes")
    return templates or [PUBLISHED]


def prompt(template: str, name: str) -> str:
    """The template with the class name put in, underscores read as spaces (Li et al., CVPR 2024, Sec. 4.1)."""
    return template.replace("{}", name.replace("_", " "))


def _openai_templates() -> list[str]:
    from open_clip import OPENAI_IMAGENET_TEMPLATES

    return [make("{}") for make in OPENAI_IMAGENET_TEMPLATES]


def _read_template_file(path: Path) -> list[str]:
    try:
        text = read_file(path).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"template file '{path}' is not UTF-8 text", "write one template a line, with {} in it") from None
    lines = [line.strip() for line in text.splitlines()]
    templates = [line for line in lines if line and not line.startswith("#")]
    if not templates:
        raise InputError(f"template file '{path}' holds no template", "write one template a line, with {} in it")
    return templates
