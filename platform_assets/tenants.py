"""Whose rows are: each is of an organisation, or of nobody in particular."""

import polars as pl

# Owns the rows that do not say whose they are.
DEFAULT_TENANT = "default"


def join_by_tenant(rows: pl.DataFrame, known: pl.DataFrame, key: str) -> pl.DataFrame:
    """Return rows, in their order, beside what is known of their key: to their organisation, or else to nobody's.

    Args:
        rows: with ``tenant_id`` and the key.
        known: ``tenant_id``, the key, and the columns that are wanted; one row an organisation and key.
        key: column that both have.
    """
    wanted = [name for name in known.columns if name not in ("tenant_id", key)]
    own = known.select("tenant_id", key, own=pl.struct(wanted))
    shared = own.filter(pl.col("tenant_id") == DEFAULT_TENANT).select(key, shared="own")
    return (
        rows.join(own, on=["tenant_id", key], how="left", maintain_order="left")
        .join(shared, on=key, how="left", maintain_order="left")
        .with_columns(pl.coalesce("own", "shared"))
        .drop("shared")
        .unnest("own")
    )
