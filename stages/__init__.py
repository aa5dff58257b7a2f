"""The library behind `laat`: language-driven anchors for zero-shot adversarial robustness (Li et al., CVPR 2024).

Nothing in here prints or exits the process; every problem is a `stages.errors.LaatError`.
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("laat")
except PackageNotFoundError:  # running from a source tree that was never installed
    __version__ = "0+unknown"
