"""What is looked up in other tables and comes, or changes, later: exactly the days that refer to it are made again.

The catalog declares each look-up. A table keeps up to which version of what it looks up its days are known to be
right, and with which version each day was made.
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
from resources.lakehouse.snapshot import snapshot
from resources.lakehouse.tables import PLACE, Lakehouse, VersionGoneError
from signals.documents.urls import canonical_url


def versions(lakehouse: Lakehouse, table: catalog.Table, days: Sequence[str]) -> dict[str, int]:
    """Return what a table keeps with days that are made now: the versions of all that it looks up."""
    now = {name: lakehouse.version(name) for name in _looked_up(table) if lakehouse.exists(name)}
    return {LOOKUP_READ.name(name, day): version for name, version in now.items() for day in days}


def invalidate(lakehouse: Lakehouse) -> None:
    """Have every day be stale whose rows would find something else now than when they were made."""
    seen = snapshot(lakehouse)
    for table in catalog.tables().values():
        if not _looked_up(table) or not seen.exists(table.name):
            continue
        kept = seen.checkpoints(table.name)
        known = LOOKUP_CHECKED.matching(kept)
        days: set[str] = set()
        checked: dict[str, int] = {}
        for name in sorted(_looked_up(table)):
            if not seen.exists(name):
                continue
            now, made = seen.version(name), LOOKUP_READ.matching(kept, name)
            then = known.get(name, min(made.values(), default=None))
            if then != now:
                days |= {day for day in _referring(seen, table, name, then) if made.get(day, -1) < now}
                checked[LOOKUP_CHECKED.name(name)] = now
        if checked:
            staleness.invalidate(lakehouse, table.name, days, checked)


def _looked_up(table: catalog.Table) -> set[str]:
    return {lookup.table for lookup in table.lookups} | ({table.deliveries} if table.deliveries else set())


def _referring(lakehouse: Lakehouse, table: catalog.Table, name: str, then: int | None) -> Iterator[str]:
    """Yield the days of a table that what has changed in another since a version may change."""
    if name == table.deliveries:
        yield from _surpassed(lakehouse, table, then)
    for lookup in table.lookups:
        refers = lookup.referred_by
        if lookup.table == name and lakehouse.exists(refers.table):
            keys = _changed(lakehouse, lookup, then)
            for column in refers.columns if len(keys) else ():
                rows = lakehouse.scan(refers.table).select(DAY, key=column).drop_nulls().unique().collect()
                if refers.spelled:
                    spelled = SPELLED[refers.spelled]
                    names = pl.col("key").map_elements(spelled, return_dtype=pl.List(pl.String))
                    rows = rows.with_columns(names).explode("key")
                yield from rows.filter(pl.col("key").is_in(keys.implode()))[DAY].unique().cast(pl.String)


def _changed(lakehouse: Lakehouse, lookup: catalog.Lookup, then: int | None) -> pl.Series:
    """Return the keys under which something else is found now than in a version."""
    newest = [lookup.newest] if lookup.newest else []
    changed = rows_changed(lakehouse, lookup.table, then, [*lookup.key, *lookup.values, *newest])
    keys = pl.concat([changed[key].cast(pl.String) for key in lookup.key]).drop_nulls().unique()
    if lookup.newest is None or then is None or keys.is_empty():
        return keys
    try:
        now, before = (_found(lakehouse, lookup, keys, version) for version in (None, then))
    except VersionGoneError:
        return keys
    sides = (
        one.join(other, on=one.columns, how="anti", nulls_equal=True) for one, other in permutations((now, before))
    )
    return pl.concat(sides)["key"].unique()


def _found(lakehouse: Lakehouse, lookup: catalog.Lookup, keys: pl.Series, version: int | None) -> pl.DataFrame:
    """Return what is found in a version under each of some keys: an organisation's newest, and the newest of all."""
    rows = lakehouse.scan(lookup.table, version=version)
    parts = (
        rows.select(*lookup.values, lookup.newest, key=pl.col(name).cast(pl.String), named=pl.lit(name))
        for name in lookup.key
    )
    found = pl.concat(parts).filter(pl.col("key").is_in(keys.implode())).collect()
    found = found.sort(lookup.newest, *lookup.values)
    own, anyones = (
        found.unique([*whose, "key", "named"], keep="last").with_columns(own=pl.lit(bool(whose)))
        for whose in ((catalog.TENANT,), ())
    )
    return pl.concat([own, anyones]).select("key", "named", "own", *lookup.values)


def _surpassed(lakehouse: Lakehouse, table: catalog.Table, then: int | None) -> Iterator[str]:
    """Yield the days on which a table holds a row of whose record another delivery, of another day, is preferred."""
    bronze = str(table.deliveries)
    stored = pl.Schema(lakehouse.scan(bronze).collect_schema())
    ids = [name for name in table.key if name in stored and name != catalog.TENANT]
    order = [one.removeprefix("-") for one in table.prefer]
    columns = list(dict.fromkeys([*ids, catalog.TENANT, *order, *PLACE, DAY]))
    fresh = rows_changed(lakehouse, bronze, then, [*columns, "received_at"])
    # Whose a record is that does not say so, may be looked up.
    whose = pl.when(pl.col(catalog.TENANT).is_null().any().over(ids)).then(pl.lit("")).otherwise(catalog.TENANT)
    fresh = fresh.with_columns(whose=whose).with_columns(
        pl.coalesce(name, "received_at") for name in order if stored[name] == stored["received_at"]
    )
    known = lakehouse.scan(table.name).select(columns).join(fresh.lazy().select(ids).unique(), on=ids, how="semi")
    shared = fresh.filter(pl.col("whose") == "").select(*ids, whose="whose").unique()
    known = known.collect().join(shared, on=ids, how="left").with_columns(pl.coalesce("whose", catalog.TENANT))
    key = [*ids, "whose"]
    both = pl.concat([known, fresh.select(known.columns)], how="vertical_relaxed")
    first = preferred_first(both, table.prefer).unique(key, keep="first", maintain_order=True)
    beaten = known.join(first, on=[*key, *PLACE], how="anti", nulls_equal=True)
    yield from beaten[DAY].unique().cast(pl.String)


def _addresses(value: str) -> list[str]:
    return [value, canonical_url(value)] if "://" in value else [value]


def _domains(value: str) -> list[str]:
    labels = value.split(".")
    return [".".join(labels[place:]) for place in range(len(labels))]


SPELLED = {"address": _addresses, "subdomain": _domains}
