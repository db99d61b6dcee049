"""Lookups: when a looked-up table changes, exactly the days whose rows refer to the change become stale.

The catalog declares each lookup. Each table keeps two kinds of checkpoint: the version of a looked-up table up to which
all days are checked, and the version with which each day was made.
"""

from collections.abc import Iterator, Sequence
from itertools import permutations

import polars as pl

from governance import catalog
from governance.quality import preferred_first
from resources.lakehouse import staleness
from resources.lakehouse.changes import rows_changed
from resources.lakehouse.checkpoints import LOOKUP_CHECKED, LOOKUP_READ
from resources.lakehouse.days import DAY
from resources.lakehouse.key_index import KeyIndex
from resources.lakehouse.reading import VersionGoneError
from resources.lakehouse.snapshot import snapshot
from resources.lakehouse.tables import PLACE, Lakehouse
from signals.documents.urls import canonical_url


def versions(lakehouse: Lakehouse, table: catalog.Table, days: Sequence[str]) -> dict[str, int]:
    """Return the checkpoints of days that are made now: the versions of all looked-up tables."""
    current = {name: lakehouse.version(name) for name in _looked_up(table) if lakehouse.exists(name)}
    return {LOOKUP_READ.name(name, day): version for name, version in current.items() for day in days}


def invalidate(lakehouse: Lakehouse) -> None:
    """Mark as stale every day whose lookups would return other values now than when the day was made."""
    tables = snapshot(lakehouse)
    for table in catalog.tables().values():
        if not _looked_up(table) or not tables.exists(table.name):
            continue
        checkpoints = tables.checkpoints(table.name)
        checked = LOOKUP_CHECKED.matching(checkpoints)
        stale_days: set[str] = set()
        new_checkpoints: dict[str, int] = {}
        for name in sorted(_looked_up(table)):
            if not tables.exists(name):
                continue
            current, read = tables.version(name), LOOKUP_READ.matching(checkpoints, name)
            since = checked.get(name, min(read.values(), default=None))
            if since != current:
                stale_days |= {day for day in _referring(tables, table, name, since) if read.get(day, -1) < current}
                new_checkpoints[LOOKUP_CHECKED.name(name)] = current
        if new_checkpoints:
            staleness.invalidate(lakehouse, table.name, stale_days, new_checkpoints)


def _looked_up(table: catalog.Table) -> set[str]:
    return {lookup.table for lookup in table.lookups} | ({table.deliveries} if table.deliveries else set())


def _referring(lakehouse: Lakehouse, table: catalog.Table, name: str, since: int | None) -> Iterator[str]:
    """Yield the days of a table that may depend on what changed in another table since a version."""
    if name == table.deliveries:
        yield from _superseded(lakehouse, table, since)
    for lookup in table.lookups:
        reference = lookup.referred_by
        if lookup.table == name and lakehouse.exists(reference.table):
            keys = _changed_keys(lakehouse, lookup, since)
            for column in reference.columns if len(keys) else ():
                if reference.spelled is None:
                    referring = KeyIndex(lakehouse, reference.table, [column]).scan(keys.alias(column).to_frame())
                    yield from referring.select(DAY).unique().collect()[DAY].cast(pl.String)
                else:
                    rows = lakehouse.scan(reference.table).select(DAY, key=column).drop_nulls().unique().collect()
                    spellings = SPELLINGS[reference.spelled]
                    rows = rows.with_columns(
                        pl.col("key").map_elements(spellings, return_dtype=pl.List(pl.String))
                    ).explode("key")
                    yield from rows.filter(pl.col("key").is_in(keys.implode()))[DAY].unique().cast(pl.String)


def _changed_keys(lakehouse: Lakehouse, lookup: catalog.Lookup, since: int | None) -> pl.Series:
    """Return the keys whose looked-up values differ from those in a version."""
    newest = [lookup.newest] if lookup.newest else []
    changed = rows_changed(lakehouse, lookup.table, since, [*lookup.key, *lookup.values, *newest])
    keys = pl.concat([changed[key].cast(pl.String) for key in lookup.key]).drop_nulls().unique()
    if lookup.newest is None or since is None or keys.is_empty():
        return keys
    try:
        current, former = (_values(lakehouse, lookup, keys, version) for version in (None, since))
    except VersionGoneError:
        return keys
    differences = (
        left.join(right, on=left.columns, how="anti", nulls_equal=True)
        for left, right in permutations((current, former))
    )
    return pl.concat(differences)["key"].unique()


def _values(lakehouse: Lakehouse, lookup: catalog.Lookup, keys: pl.Series, version: int | None) -> pl.DataFrame:
    """Return the values of some keys in a version: each tenant's newest, and the newest of all tenants."""
    parts = (
        KeyIndex(lakehouse, lookup.table, [name])
        .scan(keys.alias(name).to_frame(), version)
        .select(*lookup.values, lookup.newest, key=pl.col(name), key_column=pl.lit(name))
        for name in lookup.key
    )
    values = pl.concat(parts).collect()
    values = values.sort(lookup.newest, *lookup.values)
    own, shared = (
        values.unique([*owner, "key", "key_column"], keep="last").with_columns(own=pl.lit(bool(owner)))
        for owner in ((catalog.TENANT,), ())
    )
    return pl.concat([own, shared]).select("key", "key_column", "own", *lookup.values)


def _superseded(lakehouse: Lakehouse, table: catalog.Table, since: int | None) -> Iterator[str]:
    """Yield the days on which a table holds a delivery to which a new one, of another day, is preferred."""
    bronze = str(table.deliveries)
    schema = pl.Schema(lakehouse.scan(bronze).collect_schema())
    ids = [name for name in table.key if name in schema and name != catalog.TENANT]
    order = [name.removeprefix("-") for name in table.prefer]
    columns = list(dict.fromkeys([*ids, catalog.TENANT, *order, *PLACE, DAY]))
    new_rows = rows_changed(lakehouse, bronze, since, [*columns, "received_at"])
    # The tenant of a record that names none may itself be looked up: all deliveries of its id are compared.
    owner = pl.when(pl.col(catalog.TENANT).is_null().any().over(ids)).then(pl.lit("")).otherwise(catalog.TENANT)
    new_rows = new_rows.with_columns(owner=owner).with_columns(
        pl.coalesce(name, "received_at") for name in order if schema[name] == schema["received_at"]
    )
    stored_rows = KeyIndex(lakehouse, table.name, ids).scan(new_rows.drop_nulls(ids)).select(columns)
    unowned = new_rows.filter(pl.col("owner") == "").select(*ids, "owner").unique()
    stored_rows = stored_rows.collect().join(unowned, on=ids, how="left")
    stored_rows = stored_rows.with_columns(pl.coalesce("owner", catalog.TENANT))
    key = [*ids, "owner"]
    deliveries = pl.concat([stored_rows, new_rows.select(stored_rows.columns)], how="vertical_relaxed")
    preferred = preferred_first(deliveries, table.prefer).unique(key, keep="first", maintain_order=True)
    superseded = stored_rows.join(preferred, on=[*key, *PLACE], how="anti", nulls_equal=True)
    yield from superseded[DAY].unique().cast(pl.String)


def _url_spellings(value: str) -> list[str]:
    return [value, canonical_url(value)] if "://" in value else [value]


def _parent_domains(value: str) -> list[str]:
    labels = value.split(".")
    return [".".join(labels[start:]) for start in range(len(labels))]


SPELLINGS = {"url": _url_spellings, "subdomain": _parent_domains}
