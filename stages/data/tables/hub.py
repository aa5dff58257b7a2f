"""Data sets that the `datasets` library opens: saved by it on disk, or on the Hugging Face hub."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stages.data.folders.locate import WHAT_DATA_CAN_BE
from stages.data.tables.arrow_messages import is_compressed
from stages.errors import InputError, MissingError, UsageError
from stages.text import first_line


def load_saved(path: Path, name: str) -> dict[str, Any]:
    """The splits of a data set written by `save_to_disk`. Raises InputError when it cannot be read or names files elsewhere."""
    import datasets

    for entry in path.rglob("*"):
        if not (entry.is_file() or entry.is_dir()):  # opening a pipe would wait forever
            what = f"the saved dataset '{name}' contains '{entry.name}', which is not a regular file"
            raise InputError(what, "remove it, or save the dataset again")
        if entry.suffix == ".arrow" and is_compressed(entry):
            raise InputError(f"'{entry.name}' of the saved dataset '{name}' is compressed", "save it again with save_to_disk")
    try:
        with quiet_datasets():
            found = _splits(datasets.load_from_disk(str(path)))
    except Exception as error:  # anything may be wrong with the files
        what = f"the saved dataset '{name}' cannot be read ({first_line(error)})"
        raise InputError(what, "save it again") from error
    if not found:
        raise InputError(f"the saved dataset '{name}' has no split", "save it again")
    own = os.path.abspath(path)
    for file in (Path(os.path.abspath(file["filename"])) for split in found.values() for file in split.cache_files):
        if not file.is_relative_to(own):
            raise InputError(
                f"the saved dataset '{name}' names the file '{file}', which is outside its folder", "save it again"
            )
    return found


def load_hub(hub_id: str) -> dict[str, Any]:
    """The splits of a hub data set, downloaded into the cache of the hub library on first use.

    Raises MissingError (exit 4) when the hub cannot be reached and the data are not in the cache, InputError when there is no
    such data set or it cannot be read, UsageError when it has several configurations.
    """
    import datasets
    from datasets.exceptions import DatasetNotFoundError

    try:
        with quiet_datasets():
            return _splits(datasets.load_dataset(hub_id))
    except DatasetNotFoundError:
        raise InputError(
            f"'{hub_id}' is neither a local path nor a public dataset on the hub",
            f"check the name (for a private one: hf auth login); {WHAT_DATA_CAN_BE}",
        ) from None
    except ConnectionError as error:
        raise MissingError(
            f"'{hub_id}' is not a local path, and the hub cannot be reached",
            "connect to the network once to download it, or copy its parquet files to a folder and give that folder",
        ) from error
    except Exception as error:
        if "Config name is missing" in str(error):
            raise UsageError(
                f"'{hub_id}' has several configurations",
                f"save one with datasets.load_dataset('{hub_id}', NAME).save_to_disk('FOLDER') and give --data FOLDER",
            ) from None
        what = f"the hub dataset '{hub_id}' cannot be read ({first_line(error)})"
        raise InputError(what, WHAT_DATA_CAN_BE) from error


def in_cache(hub_id: str) -> bool:
    """Whether a hub data set was downloaded and prepared before, so that `load_hub` needs no network."""
    from datasets.load import CachedDatasetModuleFactory

    try:
        with quiet_datasets():
            CachedDatasetModuleFactory(hub_id).get_module()
    except FileNotFoundError:
        return False
    return True


def refusal(hub_id: str) -> str | None:
    """Why the hub does not give a data set to this user; '' if it does, None if the hub cannot be reached."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    try:
        api = HfApi()
        api.dataset_info(hub_id, timeout=10)
        api.auth_check(hub_id, repo_type="dataset")
    except HfHubHTTPError as error:  # unknown, private or gated
        return f"the hub does not give it: {first_line(error)}"
    except Exception:  # anything may be wrong with a network
        return None
    return ""


def hub_folders(hub_id: str) -> list[Path]:
    """Where the libraries put the files of a hub data set: its own folder in the hub's cache, and unpacked archives."""
    from datasets import config
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    own = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=hub_id, repo_type="dataset")
    return [own, Path(config.DOWNLOADED_DATASETS_PATH), Path(config.EXTRACTED_DATASETS_PATH)]


def _splits(loaded: Any) -> dict[str, Any]:
    """The splits of a `datasets.DatasetDict`, or a `datasets.Dataset` as its split ('train' if it has no name)."""
    return (
        {str(split): one for split, one in loaded.items()}
        if hasattr(loaded, "items")
        else {str(loaded.split or "train"): loaded}
    )


@contextlib.contextmanager
def quiet_datasets() -> Iterator[None]:
    """Disable progress bars and logging of the datasets and hub libraries; their settings are restored afterwards."""
    import datasets.utils
    import huggingface_hub.utils as hub

    loggers = [logging.getLogger(name) for name in ("datasets", "huggingface_hub")]
    levels = [logger.level for logger in loggers]
    shown = [library for library in (datasets.utils, hub) if not library.are_progress_bars_disabled()]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    for library in shown:
        library.disable_progress_bars()
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        for library in shown:
            library.enable_progress_bars()
