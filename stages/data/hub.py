"""Images on the Hugging Face hub."""

from __future__ import annotations

from typing import Any

from stages.data.library import LibraryTable, first_line, library_tables, quiet_datasets
from stages.data.locate import WHAT_DATA_CAN_BE
from stages.errors import InputError, MissingError, UsageError


def hub_tables(hub_id: str) -> dict[str, LibraryTable]:
    """The splits of a hub dataset, downloaded into the hub library's own cache on first use.

    Raises MissingError (exit 4) when the hub cannot be reached and the data are not in the cache, InputError when there
    is no such dataset or it cannot be read, UsageError when it has several configurations.
    """
    return library_tables(_load(hub_id))


def _load(hub_id: str) -> Any:
    import datasets
    from datasets.exceptions import DatasetNotFoundError

    try:
        with quiet_datasets():
            return datasets.load_dataset(hub_id)
    except DatasetNotFoundError:
        raise InputError(
            f"'{hub_id}' is neither a path here nor a public dataset on the hub",
            f"check the name (for a private one: hf auth login); {WHAT_DATA_CAN_BE}",
        ) from None
    except ConnectionError as error:
        raise MissingError(
            f"'{hub_id}' is no path here, and the hub cannot be reached to look for it",
            "connect to the network once to fetch it, or copy its parquet files here and give their folder",
        ) from error
    except Exception as error:
        if "Config name is missing" in str(error):
            raise UsageError(
                f"'{hub_id}' has several configurations",
                f"save one with datasets.load_dataset('{hub_id}', NAME).save_to_disk('FOLDER') and give --data FOLDER",
            ) from None
        what = f"the hub dataset '{hub_id}' cannot be read ({first_line(error)})"
        raise InputError(what, WHAT_DATA_CAN_BE) from error
