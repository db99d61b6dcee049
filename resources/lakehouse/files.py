"""Access to the lakehouse's files without Delta: reports, and table files for other engines."""

from collections.abc import Collection
from datetime import datetime
from typing import TYPE_CHECKING

import polars as pl

from resources.lakehouse.days import DAY

if TYPE_CHECKING:
    from pyarrow.dataset import Dataset
    from pyarrow.fs import FileSystem

    from resources.lakehouse.reading import LakehouseReader


def write_file(lakehouse: "LakehouseReader", name: str, content: bytes) -> str:
    """Write a file that belongs to no table, such as a report, and return its address."""
    system, path = file_system(lakehouse, name)
    if "://" not in lakehouse.uri:
        system.create_dir(path.rpartition("/")[0], recursive=True)
    with system.open_output_stream(path) as stream:
        stream.write(content)
    return f"{lakehouse.uri}/{name}"


def arrow_dataset(lakehouse: "LakehouseReader", table: str, days: Collection[str] | None = None) -> "Dataset":
    """Return a table, or some days (ISO dates) of it, as a dataset; a filter by day opens only the files of these."""
    import pyarrow as pa
    from pyarrow.dataset import FileSystemDataset, ParquetFileFormat
    from pyarrow.dataset import field as column

    delta, parquet = lakehouse.open(table), ParquetFileFormat()
    system, folder = file_system(lakehouse, table)
    files = pl.DataFrame(delta.get_add_actions(flatten=True)).to_dicts()
    day, fragments = f"partition.{DAY}", []
    for file in files:
        if days is not None and str(file[day]) not in days:
            continue
        partition = column(DAY) == file[day] if day in file else None
        fragments.append(parquet.make_fragment(f"{folder}/{file['path']}", system, partition_expression=partition))
    return FileSystemDataset(fragments, pa.schema(delta.schema().to_arrow(as_large_types=True)), parquet, system)


def log_entries(lakehouse: "LakehouseReader", table: str) -> dict[str, datetime]:
    """Return when each file of a table's log was written, by its name."""
    from pyarrow.fs import FileSelector

    system, folder = file_system(lakehouse, table)
    return {info.base_name: info.mtime for info in system.get_file_info(FileSelector(f"{folder}/_delta_log"))}


def file_system(lakehouse: "LakehouseReader", name: str) -> "tuple[FileSystem, str]":
    """Return the file system of the lakehouse, and the path of a file or folder in it."""
    from pyarrow import fs

    if "://" not in lakehouse.uri:
        return fs.LocalFileSystem(), f"{lakehouse.uri}/{name}"
    scheme, _, host = lakehouse.storage.get("AWS_ENDPOINT_URL", "").rpartition("://")
    options = {"endpoint_override": host, "scheme": scheme} if host else {}
    return fs.S3FileSystem(
        region=lakehouse.storage.get("AWS_REGION"), **options
    ), f"{lakehouse.uri.split('://', 1)[1]}/{name}"
