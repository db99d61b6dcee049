"""Search of bytes: in files as they are, and in the values of Parquet files, which are compressed."""

from collections.abc import Iterable
from pathlib import Path

import pyarrow.parquet as pq


def files_with(folder: Path, texts: Iterable[str]) -> list[str]:
    """Return a line for each file below a folder and each text that it holds."""
    wanted = [(text, text.encode()) for text in texts]
    found = []
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        content = file.read_bytes()
        if file.suffix == ".parquet":
            # One column at a time, as text: values of any type, statistics and dictionaries included.
            parquet = pq.ParquetFile(file)
            for name in parquet.schema_arrow.names:
                content += str(parquet.read([name]).to_pylist()).encode("utf-8", "surrogatepass")
            content += str(parquet.metadata.to_dict()).encode()
        found += [f"{file.relative_to(folder)}: {text}" for text, data in wanted if data in content]
    return found
