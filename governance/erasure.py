"""Erasure: which rows hold a subject, from the catalog alone, and the hashed names by which a subject stays away.

A row is a subject's where one of its columns of the class subject is the subject's id, where it is about a document
that the subject wrote, or where a record in it names either. A record is JSON in a column that is personal or that the
catalog does not declare.
"""

import hashlib
import hmac
import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import polars as pl

from governance.catalog import DEFAULT_TENANT, TENANT, Class, Table

DOCUMENT, TEXT = "document_id", "content_hash"
# Owners of a suppressed name: any tenant, and a record that names none.
ANY, UNNAMED = "*", ""
# Names whose hashes are computed once among some rows: most records repeat them.
CACHED = 1 << 16
# Beginnings of a JSON object or list.
RECORD = ("{", "[")
WORD = re.compile(r"\w+(?:[-.@+]\w+)*")
PERSONAL: tuple[Class, ...] = ("subject", "personal", "special")


@dataclass(frozen=True)
class Subject:
    """A person, by the id under which one tenant, or any if None, keeps rows."""

    id: str
    tenant: str | None = None


@dataclass(frozen=True)
class Named:
    """The values that a record names.

    Attributes:
        names: all values, whole and word by word.
        documents: ids of documents.
        tenants: ids of tenants.
        broken: part of the record is cut or broken, so that it may name more.
    """

    names: frozenset[str]
    documents: frozenset[str] = frozenset()
    tenants: frozenset[str] = frozenset()
    broken: bool = False

    def owners(self, unread: str) -> frozenset[str]:
        """Return the owners of a record that stands in no tenant's row; ``unread`` if it may have had one."""
        return self.tenants or frozenset((unread if self.broken else DEFAULT_TENANT,))


def named_in(cell: str) -> Named:
    """Return what a cell names; one that is no JSON object or list names itself alone."""
    if not cell.startswith(RECORD):
        return Named(frozenset((cell,)))
    names: set[str] = set()
    broken = False
    of_key: dict[str, set[str]] = {DOCUMENT: set(), TENANT: set()}
    unread: list[tuple[str, Any]] = [("", cell)]
    while unread:
        key, value = unread.pop()
        if isinstance(value, str) and value.startswith(RECORD):
            try:
                value = json.loads(value)
            except (ValueError, RecursionError):  # cut or broken: its words count
                names.update(WORD.findall(value))
                broken = True
                continue
        if isinstance(value, dict):
            unread += value.items()
        elif isinstance(value, list):
            unread += [(key, item) for item in value]
        elif value is not None:
            name = str(value)
            names.add(name)
            if not name.isalnum():
                names.update(WORD.findall(name))
            if key in of_key:
                of_key[key].add(name)
    return Named(frozenset(names), frozenset(of_key[DOCUMENT]), frozenset(of_key[TENANT]), broken)


def subject_columns(table: Table, columns: Iterable[str]) -> list[str]:
    """Return the columns that hold the id of a row's subject."""
    return [name for name in columns if table.classes.get(name) == "subject"]


def record_columns(table: Table, schema: Mapping[str, Any]) -> list[str]:
    """Return the columns that may hold records: text that is personal, or that nobody declared."""
    names = [name for name, kind in schema.items() if kind == pl.String]
    return [name for name in names if table.classes.get(name, "personal") == "personal"]


def may_hold(table: Table, schema: Mapping[str, Any]) -> bool:
    """Say whether rows of a table may name a person."""
    return any(kind in PERSONAL for kind in table.classes.values()) or bool(record_columns(table, schema))


def names_subject(table: Table, schema: Mapping[str, Any], subject: Subject) -> pl.Expr:
    """Return the condition that a row names a subject."""
    columns = subject_columns(table, schema)
    named = [pl.col(name).cast(pl.String) == subject.id for name in columns]
    in_rows_of_tenants = TENANT in schema

    def matches(cell: str) -> bool:
        record = named_in(cell)
        owned = subject.tenant is None or in_rows_of_tenants or subject.tenant in record.owners(subject.tenant)
        return owned and subject.id in record.names

    # A record can spell the id with escapes, but not its longest run of plain characters.
    plain = max(re.findall(r"[A-Za-z0-9]+", subject.id), key=len, default="")
    for name in record_columns(table, schema):
        candidate = pl.when(pl.col(name).str.contains(plain, literal=True)).then(pl.col(name))
        named.append(candidate.map_elements(matches, return_dtype=pl.Boolean))
    found = pl.any_horizontal(pl.lit(value=False), *named).fill_null(value=False)
    if subject.tenant is None or not in_rows_of_tenants:
        return found
    return found & (pl.col(TENANT).fill_null(DEFAULT_TENANT) == subject.tenant)


def names_document(table: Table, schema: Mapping[str, Any], documents: pl.DataFrame) -> pl.Expr:
    """Return the condition that a row is about one of some documents, of their tenants or of a row without one.

    Args:
        table: the table.
        schema: its columns and their types.
        documents: tenant_id and document_id.
    """
    conditions = [pl.lit(value=False)]
    for (tenant,), of_tenant in documents.group_by(TENANT):
        ids = of_tenant[DOCUMENT].unique().to_list()

        def matches(cell: str, tenant: Any = tenant, ids: Collection[str] = frozenset(ids)) -> bool:
            record = named_in(cell)
            return tenant in (record.tenants or (tenant,)) and not record.documents.isdisjoint(ids)

        about = [pl.col(DOCUMENT).is_in(ids)] if DOCUMENT in schema else []
        for name in record_columns(table, schema):
            candidate = pl.when(pl.col(name).str.contains_any(ids)).then(pl.col(name))
            about.append(candidate.map_elements(matches, return_dtype=pl.Boolean))
        owned = pl.col(TENANT).is_null() | (pl.col(TENANT) == tenant) if TENANT in schema else pl.lit(value=True)
        conditions.append(pl.any_horizontal(pl.lit(value=False), *about).fill_null(value=False) & owned)
    return pl.any_horizontal(conditions)


def writes_documents(table: Table) -> bool:
    """Say whether the subject of a table's rows wrote their documents: the row has the document's text, as a hash."""
    return {DOCUMENT, TEXT, TENANT} <= {*table.classes} and bool(subject_columns(table, table.classes))


def describes_texts(table: Table) -> bool:
    """Say whether a table's rows are about texts, whosever they are."""
    return TEXT in table.classes and DOCUMENT not in table.classes


def hashed(salt: str, kind: str, owner: str, name: str) -> str:
    """Return the hash of a subject's or a document's name, which shows the name to nobody who does not guess it."""
    return hmac.digest(salt.encode(), f"{kind}\x1f{owner}\x1f{name}".encode(), hashlib.sha256).hex()


def names_to_suppress(subject: Subject, documents: Iterable[tuple[str, str]]) -> set[tuple[str, str, str]]:
    """Return kind, owner and name of all by which records of a subject are known.

    Args:
        subject: the subject.
        documents: tenant and id of what the subject wrote.
    """
    owner = subject.tenant or ANY
    names = {("subject", owner, subject.id), ("record", owner, subject.id), ("record", UNNAMED, subject.id)}
    return names | {("document", tenant, name) for of, name in documents for tenant in (of, UNNAMED)}


@dataclass(frozen=True)
class Suppressions:
    """The hashed names of subjects and documents whose records are dropped, and their salt."""

    salt: str = ""
    hashes: frozenset[str] = frozenset()

    def lists(self, kind: str, owner: str, name: str) -> bool:
        """Say whether a name that an owner's record has is suppressed."""
        return any(hashed(self.salt, kind, tenant, name) in self.hashes for tenant in (owner, ANY))

    def suppressed(self, table: Table, rows: pl.DataFrame) -> pl.Series:
        """Return for each row whether it names a suppressed subject or document."""
        of_rows = TENANT in rows.columns
        tenants = rows[TENANT] if of_rows else pl.repeat(None, rows.height, dtype=pl.String, eager=True)
        unnamed, owners = tenants.fill_null(UNNAMED), tenants.fill_null(DEFAULT_TENANT)
        checks = [("subject", owners, name) for name in subject_columns(table, rows.columns)]
        checks += [("document", unnamed, DOCUMENT)] if DOCUMENT in rows.columns else []
        checks += [("record", owners, name) for name in record_columns(table, rows.schema)]
        found, lists = [False] * rows.height, lru_cache(CACHED)(self.lists)

        def is_listed(kind: str, owner: str, value: str) -> bool:
            if kind != "record":
                return lists(kind, owner, value)
            record = named_in(value)
            of_names, of_documents = record.owners(UNNAMED), record.tenants or (UNNAMED,)
            named = (("record", record.names, of_names), ("document", record.documents, of_documents))
            return any(
                lists(of, tenant, name)
                for of, names, tenants in named
                for tenant in ((owner,) if of_rows else tenants)
                for name in names
            )

        for kind, of, name in checks:
            for index, (owner, value) in enumerate(zip(of, rows[name], strict=True)):
                found[index] = found[index] or (value is not None and is_listed(kind, owner, str(value)))
        return pl.Series(found, dtype=pl.Boolean)
