"""Where the tests find what is not beside them."""

from __future__ import annotations

from pathlib import Path

GOLDEN = Path(__file__).parent / "golden"
# real text features and images of the bench; not part of the repository, so tests that use them skip without
SHARED = Path(__file__).parents[2] / "shared"
ROOT = Path(__file__).parents[1]
