"""The page as one HTML file: nothing is loaded from elsewhere, and only the script of the page runs. Needs no torch."""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files
from typing import Any

from stages.reports.page.content import Content
from stages.reports.tables import Figure
from stages.text import visible
from stages.version import __version__

# what a check found
_WORDS = {"pass": "pass", "warn": "warning", "fail": "fail", "few": "too few points"}


def render_page(content: Content) -> bytes:
    """The page with this content, UTF-8.

    Every text of the content is escaped by the template, and characters that do not show are spelled out. The content security
    policy allows the style and the script of the page by their hashes, pictures that are part of it, and nothing else.
    """
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    style, script = (_own(name) for name in ("page.css", "page.js"))
    allowed = f"img-src data:; style-src {_hash(style)}; script-src {_hash(script)}"
    policy = f"default-src 'none'; {allowed}; base-uri 'none'; form-action 'none'"
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=_shown)
    environment.filters["sort_key"] = _sort_key
    own = {"style": Markup(style), "script": Markup(script), "policy": policy, "version": __version__}  # noqa: S704  # our own files
    return environment.from_string(_own("page.html")).render(page=content, words=_WORDS, **own).encode()


def _own(name: str) -> str:
    return (files(__package__) / name).read_text(encoding="utf-8").strip()


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _shown(value: Any) -> Any:
    return visible(value) if type(value) is str else value


def _sort_key(cell: Any) -> str | float:
    """What a cell of a table is sorted by."""
    return cell.value if isinstance(cell, Figure) else cell
