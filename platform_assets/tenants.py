"""The organisation that owns a row: a tenant, or the default tenant for rows that name none."""

import polars as pl

from governance.catalog import DEFAULT_TENANT


def join_by_tenant(rows: pl.DataFrame, values: pl.DataFrame, key: str) -> pl.DataFrame:
    """Return rows, in their order, beside the values of their key: their tenant's own, else the default tenant's.

    Args:
        rows: with ``tenant_id`` and the key.
        values: ``tenant_id``, the key, and the columns to add; one row per tenant and key.
        key: column that both have.
    """
    columns = [name for name in values.columns if name not in ("tenant_id", key)]
    own = values.select("tenant_id", key, own=pl.struct(columns))
    shared = own.filter(pl.col("tenant_id") == DEFAULT_TENANT).select(key, shared="own")
    return (
        rows.join(own, on=["tenant_id", key], how="left", maintain_order="left")
        .join(shared, on=key, how="left", maintain_order="left")
        .with_columns(pl.coalesce("own", "shared"))
        .drop("shared")
        .unnest("own")
    )
