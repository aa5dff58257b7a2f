"""Opening DATA: a path, a hub id, a bundled name, or a data set object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from stages.data.folders.locate import locate
from stages.data.folders.parquet_folder import check_shards, parquet_files, parquet_splits
from stages.data.request import ImageRequest
from stages.data.source import Source
from stages.errors import UsageError


def open_source(request: ImageRequest, *, wanted: Sequence[str] | None = None) -> Source:
    """Open the data of a request without decoding an image; `wanted` are the classes that count, None is all.

    Raises UsageError, InputError and MissingError.
    """
    if request.data is None:
        raise UsageError(
            "option --data is missing",
            "name the images with --data: a folder of class folders, a parquet file, a saved dataset or a hub id",
        )
    if not isinstance(request.data, str | Path):
        from stages.data.tables.python_data import source_of

        if request.layout is not None:
            raise UsageError("a layout is given with a data set object", "leave it out; it is for folders")
        return source_of(request, wanted)
    place = locate(str(request.data), request.layout)
    if place.kind in ("shapes", "folders") and (request.image_column or request.label_column):
        raise UsageError(f"the data '{place.name}' has no columns", "use --image-column and --label-column with tables only")
    if place.kind == "shapes":
        from stages.data.bundled import ShapesSource

        return ShapesSource(place.name)
    if place.kind == "folders":
        from stages.data.folders.class_folders import FolderSource

        return FolderSource(place.path, place.name, request.layout)
    from stages.data.tables.arrow_table import ArrowTable
    from stages.data.tables.hub import hub_folders, load_hub, load_saved
    from stages.data.tables.parquet_table import ParquetTable
    from stages.data.tables.table_source import Table, TableSource

    tables: Mapping[str, Table]
    if place.kind == "parquet":
        root = place.path if place.path.is_dir() else None
        tables = {split: ParquetTable(files, root) for split, files in parquet_splits(place.path).items()}
    else:
        loaded = load_saved(place.path, place.name) if place.kind == "saved" else load_hub(place.name)
        tables = {split: ArrowTable(dataset, split) for split, dataset in loaded.items()}
    own = place.path if place.path.is_dir() else place.path.parent
    folders = hub_folders(place.name) if place.kind == "hub" else [own]
    columns = {"image": request.image_column, "label": request.label_column}
    source = TableSource(place.name, tables, **columns, wanted=wanted, folders=folders)
    if place.kind == "parquet" and place.path.is_dir():
        files, passed = parquet_files(place.path)
        source.passed_over = {"": passed}
        source.notes += check_shards(files)
    return source
