"""Bronze: records as received, with the source of each; one table per kind of record."""

from importlib import import_module

from governance import catalog
from platform_assets.parsing import SourceSchema

SCHEMAS: tuple[SourceSchema, ...] = tuple(
    import_module(f"{__name__}.{table.removeprefix('bronze/')}").SCHEMA for table in catalog.names("bronze")
)
