"""Records to rows: typed as a bronze table declares, dated, or broken by a rule that has a name."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl

from resources.lakehouse import DAY
from resources.landing import Record
from resources.settings import settings

MAX_COLUMNS = 300
# A clock may run ahead of ours by this much.
SKEW = timedelta(days=1)
COLUMN = re.compile(r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")
RESERVED = ("source", "position", "received_at", DAY)
TIME = pl.Datetime("us", "UTC")
ROW: dict[str, Any] = {"source": pl.String, "position": pl.Int64, "received_at": TIME, DAY: pl.Date}

INT64 = range(-(2**63), 2**63)
MAX_FLOAT = 1e300
# What JSON may hold for a column of each type.
ACCEPTED: dict[Any, Any] = {
    pl.String: str,
    pl.Boolean: bool,
    pl.Int64: int,
    pl.Float64: (int, float),
    pl.Binary: (bytes, str),
}
# Types of values that a column of each type takes as they are.
PLAIN: dict[Any, Any] = {
    pl.String: (str,),
    pl.Boolean: (bool,),
    pl.Int64: (int,),
    pl.Float64: (float,),
    TIME: (str,),
}
# Column of a row's place among the records, while they are put in order.
AT = "@"
# Records of the same fields from which on columns are faster than rows.
ALIKE = 8
MOMENT = r"^([12]\d{3}-\d\d-\d\dT[0-2]\d:[0-5]\d:[0-5]\d(?:\.\d{1,6})?)(?:Z|\+00:00)$"


@dataclass(frozen=True)
class Received:
    """What a bronze table expects of its records.

    Attributes:
        table: ``bronze/<table>``.
        folder: landing folder that its records come from.
        owner: team that answers for it.
        columns: type of each known field.
        nested: fields of type String that hold an object or a list, kept as JSON.
        sql_table: table of the database that its records come from too, where there is a database.
        pulled: whether its records are pulled from the API too, where there is one.
        key: field that must not be null.
        event_time: field whose UTC day is the row's day; where it is missing, the day it was received.
        allowed: for a field, the values that are known.
    """

    table: str
    folder: str
    owner: str
    columns: Mapping[str, Any]
    key: str
    event_time: str
    allowed: Mapping[str, frozenset[str]] = field(default_factory=dict)
    nested: frozenset[str] = frozenset()
    sql_table: str | None = None
    pulled: bool = False


class BrokenError(ValueError):
    """A record breaks the rule that the message names."""


def receive(
    records: Iterable[Record], expected: Received, stored: pl.Schema, source: str, now: datetime
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Turn records into bronze rows.

    Args:
        records: what a file held.
        expected: the table's declaration.
        stored: columns that the table has already; empty if it does not exist.
        source: where the records come from.
        now: when they were received (UTC).

    Returns:
        Rows, with one column for each field ever seen, and broken records with ``rule`` and ``raw``.
    """
    types: dict[str, Any] = {**stored, **expected.columns}
    plain, others = _plain(records, expected, types, source, now)
    rows: list[dict[str, Any]] = []
    broken: list[dict[str, Any]] = []
    for at, record in others:
        place = {"source": source, "position": record.position, "received_at": now}
        try:
            if record.fields is None:
                raise BrokenError(record.broken)
            row = _typed(record.fields, expected, types)
            rows.append(row | place | {DAY: _day(row, record.fields, expected, now), AT: at})
        except (BrokenError, RecursionError) as error:
            rule = str(error) if isinstance(error, BrokenError) else "nested_too_deep"
            raw = record.raw if record.fields is None else _shown(record.fields)
            broken.append(place | {DAY: now.date(), "rule": rule, "raw": _text(raw or "")})
    types = {name: kind for name, kind in types.items() if name not in ROW}
    one_by_one = pl.DataFrame(rows, schema={**types, **ROW, AT: pl.Int64}, orient="row", strict=True)
    return (
        pl.concat([one_by_one, *plain], how="diagonal").sort(AT).drop(AT),
        pl.DataFrame(broken, schema={"raw": pl.String, "rule": pl.String, **ROW}),
    )


def _plain(
    records: Iterable[Record], expected: Received, types: Mapping[str, Any], source: str, now: datetime
) -> tuple[list[pl.DataFrame], list[tuple[int, Record]]]:
    """Turn records into rows by the column where many have the same fields, of the types that the table declares.

    Returns:
        Rows, with their place among the records, and the records that must be looked at one by one, for they may
        break a rule, each with its place.
    """
    alike: dict[Any, list[tuple[int, Record]]] = {}
    for at, record in enumerate(records):
        fields = record.fields
        shape = None if fields is None else (tuple(fields), tuple(map(type, fields.values())))
        alike.setdefault(shape, []).append((at, record))
    others, frames = alike.pop(None, []), []
    for (names, kinds), group in alike.items():
        frame = None
        if len(group) >= ALIKE and all(
            kind in PLAIN.get(types.get(name, pl.Null), ()) and name not in RESERVED
            for name, kind in zip(names, kinds, strict=True)
        ):
            # What Arrow cannot hold, half a surrogate pair or a huge number, is a fault of the record.
            with suppress(TypeError, ValueError, OverflowError, pl.exceptions.PolarsError):
                frame = _columns(names, [record for _, record in group], expected, types, now)
        if frame is None:
            others += group
        else:
            places, positions = zip(*((at, record.position) for at, record in group), strict=True)
            frame = frame.with_columns(
                pl.Series(AT, places, pl.Int64),
                pl.Series("position", positions, pl.Int64),
                source=pl.lit(source),
                received_at=pl.lit(now, TIME),
            )
            others += [group[index] for index in (~frame["fit"]).arg_true()]
            frames.append(frame.filter("fit").drop("fit"))
    return frames, sorted(others, key=lambda other: other[0])


def _columns(
    names: Sequence[str], group: Sequence[Record], expected: Received, types: Mapping[str, Any], now: datetime
) -> pl.DataFrame | None:
    """Return records with the same fields as columns, with their day, and ``fit`` where a row keeps every rule."""
    values = zip(*((record.fields or {}).values() for record in group), strict=True)
    given = {
        name: pl.Series(name, column, pl.String if types[name] == TIME else types[name], strict=True)
        for name, column in zip(names, values, strict=True)
    }
    if expected.key not in given:
        return None
    moments = [name for name in names if types[name] == TIME]
    frame = pl.DataFrame(given).with_columns(pl.col(name).str.extract(MOMENT).alias(name) for name in moments)
    at = pl.col(moments).str.to_datetime("%Y-%m-%dT%H:%M:%S%.f", time_unit="us", time_zone="UTC", strict=False)
    frame = frame.with_columns(at)
    fit = [pl.col(expected.key) != "", *(pl.col(name).is_not_null() for name in moments)]
    fit += [pl.col(name).abs() <= MAX_FLOAT for name in names if types[name] == pl.Float64]
    fit += [pl.col(name).is_in(list(known)) for name, known in expected.allowed.items() if name in given]
    day = pl.lit(now.date())
    if expected.event_time in given:
        moment = pl.col(expected.event_time)
        day = moment.dt.date()
        fit.append((moment <= now + SKEW) & (day >= settings().first_day))
    return frame.with_columns(day.alias(DAY), fit=pl.all_horizontal(fit).fill_null(value=False))


def _typed(fields: Mapping[str, Any], expected: Received, types: dict[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {}
    seen: dict[str, Any] = {}
    for given, value in fields.items():
        name = f"payload_{given}" if given in RESERVED else given
        if value is None:
            continue
        if name in row:
            raise BrokenError("column_name")
        if name not in types:
            if not COLUMN.match(name) or name.lower() in {known.lower() for known in (*types, *seen)}:
                raise BrokenError("column_name")
            if len(types) + len(seen) >= MAX_COLUMNS:
                raise BrokenError("too_many_columns")
            seen[name] = _inferred(value)
        nested = name in expected.nested or name not in expected.columns
        row[name] = _converted(value, types.get(name, seen.get(name)), name, nested=nested)
    if row.get(expected.key) in (None, ""):
        raise BrokenError(f"null:{expected.key}")
    for name, values in expected.allowed.items():
        if row.get(name) is not None and row[name] not in values:
            raise BrokenError(f"unknown:{name}")
    types |= seen
    return row


def _inferred(value: object) -> pl.DataType:
    if isinstance(value, bool):
        return pl.Boolean()
    if isinstance(value, (int, float)):
        return pl.Float64() if isinstance(value, float) else pl.Int64()
    return pl.String()


def _converted(value: Any, kind: Any, name: str, *, nested: bool) -> Any:
    """Return a value as its column has it; a nested one as JSON, where the column may hold it."""
    if kind == TIME:
        return moment_of(value, name)
    if kind == pl.String and nested and isinstance(value, (dict, list)):
        return _text(json.dumps(value, ensure_ascii=False, separators=(",", ":")))
    accepted = next(of for known, of in ACCEPTED.items() if kind == known)
    if not isinstance(value, accepted) or (isinstance(value, bool) and kind != pl.Boolean):
        raise BrokenError(f"changed_type:{name}")
    if kind == pl.Int64 and value not in INT64:
        raise BrokenError(f"out_of_range:{name}")
    if kind == pl.Float64 and not abs(value) <= MAX_FLOAT:  # also if it is not a number
        raise BrokenError(f"out_of_range:{name}")
    if isinstance(value, str):
        return _text(value) if kind == pl.String else value.encode("utf-8", "replace")
    return float(value) if kind == pl.Float64 else value


def moment_of(value: Any, name: str) -> datetime:
    """Read ISO 8601, or seconds or milliseconds since 1970; a time without a zone is UTC."""
    try:
        if isinstance(value, bool):
            raise TypeError
        if isinstance(value, (int, float)):
            return datetime.fromtimestamp(value / 1000 if value > 1e11 else value, UTC)
        moment = datetime.fromisoformat(value)
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (TypeError, ValueError, OverflowError, OSError):
        raise BrokenError(f"bad_timestamp:{name}") from None


def _day(row: Mapping[str, Any], fields: Mapping[str, Any], expected: Received, now: datetime) -> Any:
    if fields.get(expected.event_time) is None:
        if expected.event_time in fields:
            raise BrokenError(f"null:{expected.event_time}")
        return now.date()
    moment = row[expected.event_time]
    if moment > now + SKEW or moment.date() < settings().first_day:
        raise BrokenError(f"out_of_range:{expected.event_time}")
    return moment.date()


def _text(value: str) -> str:
    """Return a string that UTF-8 can hold: half a surrogate pair becomes a replacement character."""
    return value.encode("utf-8", "replace").decode("utf-8")


def _shown(fields: Mapping[str, Any]) -> str:
    """Return a record as JSON; one that is nested too deep to be written again, as far as can be said."""
    try:
        return json.dumps(fields, default=_readable, ensure_ascii=False)
    except RecursionError:
        return f"an object of {len(fields)} fields, nested too deep to show"


def _readable(value: object) -> str:
    return f"<{len(value)} bytes>" if isinstance(value, bytes) else str(value)
