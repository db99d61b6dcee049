"""Parsing: records become rows, typed and dated as their bronze table declares, or broken by a named rule."""

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache, partial
from operator import attrgetter
from typing import Any

import msgspec
import polars as pl

from resources.lakehouse.days import DAY
from resources.landing.records import Record, parse_line

# Allowed clock skew of sources.
MAX_SKEW = timedelta(days=1)
EPOCH = date(1970, 1, 1)
# Column with all fields that a table does not declare, as one JSON object; null where a record has none.
UNDECLARED = "undeclared"
TIME = pl.Datetime("us", "UTC")
ROW: dict[str, Any] = {"source": pl.String, "position": pl.Int64, "received_at": TIME, DAY: pl.Date}

INT64 = range(-(2**63), 2**63)
MAX_FLOAT = 1e300
# JSON types that a column of each type accepts.
ACCEPTED_TYPES: dict[Any, Any] = {
    pl.String: str,
    pl.Boolean: bool,
    pl.Int64: int,
    pl.Float64: (int, float),
    pl.Binary: (bytes, str),
}
# The type of each column's values that needs no conversion in bulk parsing.
BULK_TYPES: dict[Any, Any] = {pl.String: str, pl.Boolean: bool, pl.Int64: int, pl.Float64: float, TIME: str}
# Column with a record's index among the records, by which rows are sorted again.
INDEX = "@"
# From this many records on, parsing in bulk is faster than record by record.
MIN_BULK = 8
BULK_TIMESTAMP = r"^([12]\d{3}-\d\d-\d\dT[0-2]\d:[0-5]\d:[0-5]\d(?:\.\d{1,6})?)(?:Z|\+00:00)$"


@dataclass(frozen=True)
class SourceSchema:
    """The records that a bronze table expects.

    Attributes:
        table: ``bronze/<table>``.
        folder: landing folder of its files.
        columns: type of each declared field.
        nested: fields of type String that hold an object or a list, kept as JSON.
        topic: topic that it also reads, where there is a broker.
        sql_table: database table that it also reads, where there is a database.
        pulled: whether it also reads the API, where there is one.
        spooled: whether its files are in the spool of our own API, not where files land.
        key: field that must not be null.
        event_time: field whose UTC day is the row's day; where it is missing, the day of receipt.
        allowed: the allowed values of a field.
    """

    table: str
    folder: str
    columns: Mapping[str, Any]
    key: str
    event_time: str
    allowed: Mapping[str, frozenset[str]] = field(default_factory=dict)
    nested: frozenset[str] = frozenset()
    topic: str | None = None
    sql_table: str | None = None
    pulled: bool = False
    spooled: bool = False


# A record that decodes in bulk: its index, the record, its declared fields, and all other fields as JSON.
_Decoded = tuple[int, Record, Any, str | None]


class BrokenError(ValueError):
    """A record breaks the rule that the message names."""


def parse_records(
    records: Iterable[Record], expected: SourceSchema, source: str, now: datetime, first_day: date = EPOCH
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Turn records into bronze rows.

    Args:
        records: the records of one source.
        expected: the table's source schema.
        source: name of the source.
        now: when they were received (UTC).
        first_day: earliest allowed day.

    Returns:
        Rows with the declared columns and, in ``undeclared``, all other fields as JSON; and broken records with
        ``rule`` and ``raw``.
    """
    frames, remaining = _parse_bulk(records, expected, source, now, first_day)
    rows: list[dict[str, Any]] = []
    broken: list[dict[str, Any]] = []
    for index, lazy_record in remaining:
        record = lazy_record if lazy_record.line is None else parse_line(lazy_record.line, lazy_record.position)
        provenance = {"source": source, "position": record.position, "received_at": now}
        try:
            if record.fields is None:
                raise BrokenError(record.broken)
            row = _typed(record.fields, expected)
            rows.append(row | provenance | {DAY: _day(row, record.fields, expected, now, first_day), INDEX: index})
        except Exception as error:  # noqa: BLE001 - one record never stops the others
            raw = record.raw if record.fields is None else _dumps(record.fields)
            broken.append(provenance | {DAY: now.date(), "rule": _rule(error), "raw": _utf8(raw or "")})
    schema = {**expected.columns, UNDECLARED: pl.String, **ROW}
    single_rows = pl.DataFrame(rows, schema={**schema, INDEX: pl.Int64}, orient="row", strict=True)
    return (
        pl.concat([single_rows, *frames], how="diagonal").sort(INDEX).select(*schema),
        pl.DataFrame(broken, schema={"raw": pl.String, "rule": pl.String, **ROW}),
    )


def _rule(error: Exception) -> str:
    """Return the rule that a record breaks where parsing it raises."""
    if isinstance(error, BrokenError):
        return str(error)
    return "nested_too_deep" if isinstance(error, RecursionError) else f"raised:{type(error).__name__}"


def declared(rows: pl.DataFrame, expected: SourceSchema) -> pl.DataFrame:
    """Return stored rows with the columns that their table declares now.

    A field that was declared after a row was stored is taken from ``undeclared``, where its type fits.
    """
    rows = rows.with_columns(pl.lit(None, kind).alias(n) for n, kind in expected.columns.items() if n not in rows)
    for name, kind in expected.columns.items():
        mentioned = pl.col(UNDECLARED).str.contains(f'"{name}":', literal=True)
        texts = rows.select(pl.when(pl.col(name).is_null() & mentioned).then(UNDECLARED)).to_series()
        if texts.null_count() < rows.height:
            values = [text and _from_undeclared(text, name, expected) for text in texts]
            rows = rows.with_columns(pl.coalesce(name, pl.Series(name, values, kind)))
    return rows.select(*expected.columns, *ROW)


def _from_undeclared(undeclared: str, name: str, expected: SourceSchema) -> Any:
    """Return a field of the undeclared ones, converted to its column; None where the column cannot hold it."""
    with suppress(BrokenError, RecursionError):
        value = json.loads(undeclared).get(name)
        if value is not None:
            converted = _converted(value, expected.columns[name], name, nested=name in expected.nested)
            return converted if converted in expected.allowed.get(name, (converted,)) else None
    return None


def _parse_bulk(
    records: Iterable[Record], expected: SourceSchema, source: str, now: datetime, first_day: date
) -> tuple[list[pl.DataFrame], list[tuple[int, Record]]]:
    """Parse by column the records whose declared fields already have the declared types.

    Returns:
        Rows with their ``INDEX``, and the remaining records with their index: each may break a rule, and is parsed by
        itself.
    """
    struct = _struct(tuple(expected.columns.items()), expected.event_time)
    decode, convert = msgspec.json.Decoder(struct).decode, partial(msgspec.convert, type=struct)
    remaining: list[tuple[int, Record]] = []
    decoded: list[_Decoded] = []
    for index, record in enumerate(records):
        try:
            if record.line is not None:
                try:
                    decoded.append((index, record, decode(record.line), None))
                    continue
                except msgspec.ValidationError:
                    fields = msgspec.json.decode(record.line)
            else:
                fields = record.fields
            if isinstance(fields, dict):
                declared_fields, rest = _split_declared(fields, expected)
                decoded.append((index, record, convert(declared_fields), _undeclared(rest)))
            else:
                remaining.append((index, record))
        except (msgspec.MsgspecError, BrokenError, UnicodeError, RecursionError):
            remaining.append((index, record))
    frames, queue = [], [decoded]
    while queue:
        chunk = queue.pop()
        if len(chunk) < MIN_BULK:
            remaining += [item[:2] for item in chunk]
            continue
        try:
            frame = _frame(chunk, expected, now, first_day)
        except (TypeError, ValueError, OverflowError, pl.exceptions.PolarsError):
            # Arrow cannot hold a value of some record, half a surrogate pair or a huge number: bisect.
            queue += [chunk[: len(chunk) // 2], chunk[len(chunk) // 2 :]]
            continue
        remaining += [chunk[index][:2] for index in (~frame["valid"]).arg_true()]
        frames.append(frame.filter("valid").drop("valid").with_columns(source=pl.lit(source)))
    return frames, sorted(remaining, key=lambda item: item[0])


@lru_cache(maxsize=64)
def _struct(types: tuple[tuple[str, Any], ...], event_time: str) -> type[msgspec.Struct]:
    """Return the struct that records decode to in bulk: a field per column, None where missing, no others."""
    names = [name for name, kind in types if kind in BULK_TYPES]
    kinds = {name: BULK_TYPES[kind] for name, kind in types if name in names}
    # A missing event time has a default day; an explicit null breaks a rule, so it does not decode.
    fields = [(f"f{i}", kinds[n] if n == event_time else kinds[n] | None, None) for i, n in enumerate(names)]
    renamed = {f"f{i}": name for i, name in enumerate(names)}
    return msgspec.defstruct("Declared", fields, rename=renamed, forbid_unknown_fields=True, gc=False)


def _frame(decoded: Sequence[_Decoded], expected: SourceSchema, now: datetime, first_day: date) -> pl.DataFrame:
    """Return decoded records as columns, with their day, and ``valid`` where a row keeps every rule."""
    types = expected.columns
    indices, records, values, rest = zip(*decoded, strict=True)
    columns: dict[str, Any] = {INDEX: indices, "position": [record.position for record in records]}
    columns[UNDECLARED] = pl.Series(UNDECLARED, rest, pl.String)
    for struct_field in msgspec.structs.fields(type(values[0])):
        kind, name = types[struct_field.encode_name], struct_field.encode_name
        column = list(map(attrgetter(struct_field.name), values))
        columns[name] = pl.Series(name, column, pl.String if kind == TIME else kind, strict=True)
    times = [name for name in columns if types.get(name) == TIME]
    frame = pl.DataFrame(columns).with_columns(pl.col(name).str.extract(BULK_TIMESTAMP).alias(name) for name in times)
    parsed = pl.col(times).str.to_datetime("%Y-%m-%dT%H:%M:%S%.f", time_unit="us", time_zone="UTC", strict=False)
    is_parsed = [pl.col(name).is_not_null() | pl.lit(columns[name].is_null()) for name in times]
    frame = frame.with_columns(parsed, received_at=pl.lit(now, TIME))
    valid = [pl.col(expected.key) != "", pl.col(expected.key).is_not_null(), *is_parsed]
    valid += [(pl.col(name).abs() <= MAX_FLOAT) for name in columns if types.get(name) == pl.Float64]
    valid += [pl.col(name).is_in(list(allowed)) for name, allowed in expected.allowed.items() if name in columns]
    event_time = pl.col(expected.event_time)
    valid.append((event_time <= now + MAX_SKEW) & (event_time.dt.date() >= first_day))
    day = pl.coalesce(event_time.dt.date(), pl.lit(now.date()))
    # A missing value breaks no rule but that of the key.
    return frame.with_columns(day.alias(DAY), valid=pl.all_horizontal(rule.fill_null(value=True) for rule in valid))


def _typed(fields: Mapping[str, Any], expected: SourceSchema) -> dict[str, Any]:
    declared_fields, rest = _split_declared(fields, expected)
    row: dict[str, Any] = {
        name: _converted(value, expected.columns[name], name, nested=name in expected.nested)
        for name, value in declared_fields.items()
        if value is not None
    }
    if row.get(expected.key) in (None, ""):
        raise BrokenError(f"null:{expected.key}")
    for name, values in expected.allowed.items():
        if row.get(name) is not None and row[name] not in values:
            raise BrokenError(f"unknown:{name}")
    return row | {UNDECLARED: _undeclared(rest)}


def _split_declared(fields: Mapping[str, Any], expected: SourceSchema) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split the fields of a record into those that its table declares, and all others."""
    declared_fields: dict[str, Any] = {}
    rest: dict[str, Any] = {}
    for name, value in fields.items():
        (declared_fields if name in expected.columns else rest)[name] = value
    return declared_fields, rest


def _undeclared(rest: Mapping[str, Any]) -> str | None:
    """Return fields as JSON; None if there are none.

    Raises:
        BrokenError: a number among them does not exist in JSON.
        RecursionError: they are nested too deep.
    """
    if not rest:
        return None
    try:
        return _utf8(json.dumps(rest, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_readable))
    except ValueError:
        raise BrokenError(f"out_of_range:{UNDECLARED}") from None


def _converted(value: Any, kind: Any, name: str, *, nested: bool) -> Any:
    """Convert a value to its column's type; a nested value becomes JSON where the column may hold it."""
    if kind == TIME:
        return parse_timestamp(value, name)
    if kind == pl.String and nested and isinstance(value, (dict, list)):
        return _utf8(json.dumps(value, ensure_ascii=False, separators=(",", ":")))
    accepted = next(types for column_type, types in ACCEPTED_TYPES.items() if kind == column_type)
    if not isinstance(value, accepted) or (isinstance(value, bool) and kind != pl.Boolean):
        raise BrokenError(f"changed_type:{name}")
    if kind == pl.Int64 and value not in INT64:
        raise BrokenError(f"out_of_range:{name}")
    if kind == pl.Float64 and not abs(value) <= MAX_FLOAT:  # NaN too
        raise BrokenError(f"out_of_range:{name}")
    if isinstance(value, str):
        return _utf8(value) if kind == pl.String else value.encode("utf-8", "replace")
    return float(value) if kind == pl.Float64 else value


def parse_timestamp(value: Any, name: str) -> datetime:
    """Read ISO 8601, or seconds or milliseconds since 1970; a time without a zone is UTC."""
    try:
        if isinstance(value, bool):
            raise TypeError
        if isinstance(value, (int, float)):
            return datetime.fromtimestamp(value / 1000 if value > 1e11 else value, UTC)
        timestamp = datetime.fromisoformat(value)
        return timestamp.astimezone(UTC) if timestamp.tzinfo else timestamp.replace(tzinfo=UTC)
    except (TypeError, ValueError, OverflowError, OSError):
        raise BrokenError(f"bad_timestamp:{name}") from None


def _day(
    row: Mapping[str, Any], fields: Mapping[str, Any], expected: SourceSchema, now: datetime, first_day: date
) -> Any:
    if fields.get(expected.event_time) is None:
        if expected.event_time in fields:
            raise BrokenError(f"null:{expected.event_time}")
        return now.date()
    timestamp = row[expected.event_time]
    if timestamp > now + MAX_SKEW or timestamp.date() < first_day:
        raise BrokenError(f"out_of_range:{expected.event_time}")
    return timestamp.date()


def _utf8(value: str) -> str:
    """Return a string that UTF-8 can encode: half a surrogate pair becomes a replacement character."""
    return value.encode("utf-8", "replace").decode("utf-8")


def _dumps(fields: Mapping[str, Any]) -> str:
    """Return a record as JSON, or a description of one that is nested too deep for that."""
    try:
        return json.dumps(fields, default=_readable, ensure_ascii=False)
    except RecursionError:
        return f"an object of {len(fields)} fields, nested too deep to show"


def _readable(value: object) -> str:
    return f"<{len(value)} bytes>" if isinstance(value, bytes) else str(value)
