"""The version of laat."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("laat")
except PackageNotFoundError:  # running from a source tree that was never installed
    __version__ = "0+unknown"
