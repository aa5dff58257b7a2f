"""What a check of a robust accuracy finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

PASS, WARN, FAIL, FEW = "pass", "warn", "fail", "few"


@dataclass(frozen=True)
class Finding:
    """Result of a check.

    Attributes:
        name: of the check.
        result: 'pass', 'warn', 'fail', or 'few' for too few points to pass.
        figures: the numbers behind the result, JSON-able.
        sentence: the result in words.
    """

    name: str
    result: str
    figures: dict[str, Any]
    sentence: str
