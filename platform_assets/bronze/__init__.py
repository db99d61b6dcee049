"""As received: one table a kind of record, with where each row came from."""

from importlib import import_module

from governance import catalog
from platform_assets.parsing import SourceSchema

SCHEMAS: tuple[SourceSchema, ...] = tuple(
    import_module(f"{__name__}.{table.removeprefix('bronze/')}").SCHEMA for table in catalog.names("bronze")
)
