"""Records to rows: typed as a bronze table declares, dated, or broken by a rule that has a name."""

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

# A clock may run ahead of ours by this much.
SKEW = timedelta(days=1)
EPOCH = date(1970, 1, 1)
# Fields that a table does not declare, as one JSON object; null where a record has none.
UNDECLARED = "undeclared"
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
# What a value is that a column of each type takes as it is.
PLAIN: dict[Any, Any] = {pl.String: str, pl.Boolean: bool, pl.Int64: int, pl.Float64: float, TIME: str}
# Column of a row's place among the records, while they are put in order.
AT = "@"
# Records from which on columns are faster than rows.
AT_ONCE = 8
MOMENT = r"^([12]\d{3}-\d\d-\d\dT[0-2]\d:[0-5]\d:[0-5]\d(?:\.\d{1,6})?)(?:Z|\+00:00)$"


@dataclass(frozen=True)
class SourceSchema:
    """What a bronze table expects of its records.

    Attributes:
        table: ``bronze/<table>``.
        folder: landing folder that its records come from.
        columns: type of each known field.
        nested: fields of type String that hold an object or a list, kept as JSON.
        topic: that its records come from too, where there is a broker.
        sql_table: table of the database that its records come from too, where there is a database.
        pulled: whether its records are pulled from the API too, where there is one.
        key: field that must not be null.
        event_time: field whose UTC day is the row's day; where it is missing, the day it was received.
        allowed: for a field, the values that are known.
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


# A record as its place among others, itself, its declared fields, and the others as JSON.
_Plain = tuple[int, Record, Any, str | None]


class BrokenError(ValueError):
    """A record breaks the rule that the message names."""


# What the rule is that a record breaks where reading it raises; None where the error says so itself.
RULES: Mapping[type[Exception], str | None] = {BrokenError: None, RecursionError: "nested_too_deep"}


def parse_records(
    records: Iterable[Record], expected: SourceSchema, source: str, now: datetime, first_day: date = EPOCH
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Turn records into bronze rows.

    Args:
        records: what a file held.
        expected: the table's declaration.
        source: where the records come from.
        now: when they were received (UTC).
        first_day: no record is of a day before it.

    Returns:
        Rows with the declared columns and, in ``undeclared``, all other fields as JSON; and broken records with
        ``rule`` and ``raw``.
    """
    plain, others = _plain(records, expected, source, now, first_day)
    rows: list[dict[str, Any]] = []
    broken: list[dict[str, Any]] = []
    for at, found in others:
        record = found if found.line is None else parse_line(found.line, found.position)
        place = {"source": source, "position": record.position, "received_at": now}
        try:
            if record.fields is None:
                raise BrokenError(record.broken)
            row = _typed(record.fields, expected)
            rows.append(row | place | {DAY: _day(row, record.fields, expected, now, first_day), AT: at})
        except Exception as error:  # noqa: BLE001 - whatever one record does, the others go on
            rule = RULES.get(type(error), f"raised:{type(error).__name__}") or str(error)
            raw = record.raw if record.fields is None else _shown(record.fields)
            broken.append(place | {DAY: now.date(), "rule": rule, "raw": _text(raw or "")})
    schema = {**expected.columns, UNDECLARED: pl.String, **ROW}
    one_by_one = pl.DataFrame(rows, schema={**schema, AT: pl.Int64}, orient="row", strict=True)
    return (
        pl.concat([one_by_one, *plain], how="diagonal").sort(AT).select(*schema),
        pl.DataFrame(broken, schema={"raw": pl.String, "rule": pl.String, **ROW}),
    )


def declared(rows: pl.DataFrame, expected: SourceSchema) -> pl.DataFrame:
    """Return stored rows as their table declares them now.

    A field that was declared only after a row had come is taken from what was undeclared then, where it has the type.
    """
    rows = rows.with_columns(pl.lit(None, kind).alias(n) for n, kind in expected.columns.items() if n not in rows)
    for name, kind in expected.columns.items():
        said = pl.col(UNDECLARED).str.contains(f'"{name}":', literal=True)
        texts = rows.select(pl.when(pl.col(name).is_null() & said).then(UNDECLARED)).to_series()
        if texts.null_count() < rows.height:
            values = [text and _declared_since(text, name, expected) for text in texts]
            rows = rows.with_columns(pl.coalesce(name, pl.Series(name, values, kind)))
    return rows.select(*expected.columns, *ROW)


def _declared_since(undeclared: str, name: str, expected: SourceSchema) -> Any:
    """Return the value that a field has among others, as its column has it; None where the column cannot hold it."""
    with suppress(BrokenError, RecursionError):
        value = json.loads(undeclared).get(name)
        if value is not None:
            found = _converted(value, expected.columns[name], name, nested=name in expected.nested)
            return found if found in expected.allowed.get(name, (found,)) else None
    return None


def _plain(
    records: Iterable[Record], expected: SourceSchema, source: str, now: datetime, first_day: date
) -> tuple[list[pl.DataFrame], list[tuple[int, Record]]]:
    """Turn those records into rows, by the column, whose declared fields hold nothing but values as declared.

    Returns:
        Rows, with their place among the records, and the records that must be looked at one by one, for they may
        break a rule, each with its place.
    """
    shape = _shape(tuple(expected.columns.items()), expected.event_time)
    decode, convert = msgspec.json.Decoder(shape).decode, partial(msgspec.convert, type=shape)
    others: list[tuple[int, Record]] = []
    plain: list[_Plain] = []
    for at, record in enumerate(records):
        try:
            if record.line is not None:
                try:
                    plain.append((at, record, decode(record.line), None))
                    continue
                except msgspec.ValidationError:
                    fields = msgspec.json.decode(record.line)
            else:
                fields = record.fields
            if isinstance(fields, dict):
                known, rest = _parted(fields, expected)
                plain.append((at, record, convert(known), _undeclared(rest)))
            else:
                others.append((at, record))
        except (msgspec.MsgspecError, BrokenError, UnicodeError, RecursionError):
            others.append((at, record))
    frames, waiting = [], [plain]
    while waiting:
        some = waiting.pop()
        if len(some) < AT_ONCE:
            others += [one[:2] for one in some]
            continue
        try:
            frame = _columns(some, expected, now, first_day)
        except (TypeError, ValueError, OverflowError, pl.exceptions.PolarsError):
            # What Arrow cannot hold, half a surrogate pair or a huge number, is a fault of some record among them.
            waiting += [some[: len(some) // 2], some[len(some) // 2 :]]
            continue
        others += [some[index][:2] for index in (~frame["fit"]).arg_true()]
        frames.append(frame.filter("fit").drop("fit").with_columns(source=pl.lit(source)))
    return frames, sorted(others, key=lambda other: other[0])


@lru_cache(maxsize=64)
def _shape(types: tuple[tuple[str, Any], ...], event_time: str) -> type[msgspec.Struct]:
    """Return what a plain record decodes to: a field a column, None where it has none; anything else is an error."""
    names = [name for name, kind in types if kind in PLAIN]
    kinds = {name: PLAIN[kind] for name, kind in types if name in names}
    # The day of a record without a time is known, of one whose time is null it is not.
    fields = [(f"f{i}", kinds[n] if n == event_time else kinds[n] | None, None) for i, n in enumerate(names)]
    renamed = {f"f{i}": name for i, name in enumerate(names)}
    return msgspec.defstruct("Plain", fields, rename=renamed, forbid_unknown_fields=True, gc=False)


def _columns(plain: Sequence[_Plain], expected: SourceSchema, now: datetime, first_day: date) -> pl.DataFrame:
    """Return plain records as columns, with their day, and ``fit`` where a row keeps every rule."""
    types = expected.columns
    places, records, values, rest = zip(*plain, strict=True)
    given: dict[str, Any] = {AT: places, "position": [record.position for record in records]}
    given[UNDECLARED] = pl.Series(UNDECLARED, rest, pl.String)
    for one in msgspec.structs.fields(type(values[0])):
        kind, name = types[one.encode_name], one.encode_name
        column = list(map(attrgetter(one.name), values))
        given[name] = pl.Series(name, column, pl.String if kind == TIME else kind, strict=True)
    moments = [name for name in given if types.get(name) == TIME]
    frame = pl.DataFrame(given).with_columns(pl.col(name).str.extract(MOMENT).alias(name) for name in moments)
    at = pl.col(moments).str.to_datetime("%Y-%m-%dT%H:%M:%S%.f", time_unit="us", time_zone="UTC", strict=False)
    read = [pl.col(name).is_not_null() | pl.lit(given[name].is_null()) for name in moments]
    frame = frame.with_columns(at, received_at=pl.lit(now, TIME))
    fit = [pl.col(expected.key) != "", pl.col(expected.key).is_not_null(), *read]
    fit += [(pl.col(name).abs() <= MAX_FLOAT) for name in given if types.get(name) == pl.Float64]
    fit += [pl.col(name).is_in(list(known)) for name, known in expected.allowed.items() if name in given]
    moment = pl.col(expected.event_time)
    fit.append((moment <= now + SKEW) & (moment.dt.date() >= first_day))
    day = pl.coalesce(moment.dt.date(), pl.lit(now.date()))
    # What is missing breaks no rule but that of the key.
    return frame.with_columns(day.alias(DAY), fit=pl.all_horizontal(one.fill_null(value=True) for one in fit))


def _typed(fields: Mapping[str, Any], expected: SourceSchema) -> dict[str, Any]:
    known, rest = _parted(fields, expected)
    row: dict[str, Any] = {
        name: _converted(value, expected.columns[name], name, nested=name in expected.nested)
        for name, value in known.items()
        if value is not None
    }
    if row.get(expected.key) in (None, ""):
        raise BrokenError(f"null:{expected.key}")
    for name, values in expected.allowed.items():
        if row.get(name) is not None and row[name] not in values:
            raise BrokenError(f"unknown:{name}")
    return row | {UNDECLARED: _undeclared(rest)}


def _parted(fields: Mapping[str, Any], expected: SourceSchema) -> tuple[dict[str, Any], dict[str, Any]]:
    """Part the fields of a record into those that its table declares, and all others."""
    known: dict[str, Any] = {}
    rest: dict[str, Any] = {}
    for name, value in fields.items():
        (known if name in expected.columns else rest)[name] = value
    return known, rest


def _undeclared(rest: Mapping[str, Any]) -> str | None:
    """Return fields as JSON; None if there are none.

    Raises:
        BrokenError: a number among them is none that JSON has.
        RecursionError: they are nested too deep.
    """
    if not rest:
        return None
    try:
        return _text(json.dumps(rest, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_readable))
    except ValueError:
        raise BrokenError(f"out_of_range:{UNDECLARED}") from None


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


def _day(
    row: Mapping[str, Any], fields: Mapping[str, Any], expected: SourceSchema, now: datetime, first_day: date
) -> Any:
    if fields.get(expected.event_time) is None:
        if expected.event_time in fields:
            raise BrokenError(f"null:{expected.event_time}")
        return now.date()
    moment = row[expected.event_time]
    if moment > now + SKEW or moment.date() < first_day:
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
