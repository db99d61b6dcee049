"""A backup of an installation whose state lies in folders: lake, registry, signal store and Dagster's run record.

A backup is a folder with the parts and the digest of every file. It has its name once it is complete and was read back.
Writers may go on meanwhile. The lake is copied first: whatever it refers to is in the registry by then.
"""

import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from resources.lakehouse.tables import Lakehouse
from resources.settings import Settings

MANIFEST = "backup.json"
LAKE, REGISTRY, FILES, SIGNALS, RUNS = "lake", "registry", "artifacts", "signals", "runs"
# A table of which files are removed while it is copied is copied again.
ATTEMPTS = 3
SQLITE = "sqlite:///"
# Columns of MLflow's database that name files of models.
ADDRESSES = {
    "experiments": ("artifact_location",),
    "runs": ("artifact_uri",),
    "model_versions": ("source", "storage_location"),
    "logged_models": ("artifact_location",),
}


class BackupError(RuntimeError):
    """State lies where this cannot copy it, a backup is damaged, or something is there already."""


@dataclass(frozen=True)
class Places:
    """Where the parts of an installation lie.

    Attributes:
        lake: folder of the tables.
        registry: file of MLflow's database.
        files: folder of models' files.
        signals: folder of the signal store.
        runs: folder of Dagster's run record.
    """

    lake: Path
    registry: Path
    files: Path
    signals: Path
    runs: Path

    @classmethod
    def of(cls, settings: Settings, runs: Path) -> "Places":
        """Return the places that settings name.

        Raises:
            BackupError: one is a server or a bucket, which have backups of their own.
        """
        tracking = settings.mlflow_tracking_uri.get_secret_value()
        named = {
            "LAKEHOUSE_URI": settings.lakehouse_uri,
            "MLFLOW_TRACKING_URI": tracking.removeprefix(SQLITE),
            "MLFLOW_ARTIFACTS": settings.mlflow_artifacts,
            "SIGNAL_STORE": settings.signal_store.get_secret_value(),
        }
        elsewhere = [name for name, place in named.items() if "://" in place]
        if elsewhere:
            raise BackupError(f"{', '.join(elsewhere)} name servers or buckets: back these up with their own means")
        return cls(*map(Path, named.values()), runs)


def backup(places: Places, target: Path, now: datetime) -> dict[str, int]:
    """Copy an installation to a folder that is not there yet, and return the bytes of each part.

    Raises:
        BackupError: something is there, or a table changes faster than it can be copied.
    """
    if target.exists():
        raise BackupError(f"{target} is there already")
    partial = target.with_name(f"{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True, mode=0o700)
    try:
        _copy(places, partial)
        manifest = {"at": now.isoformat(), "artifacts": str(places.files.resolve()), "files": dict(_digests(partial))}
        (partial / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
        verify(partial)
        partial.rename(target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return _sizes(target)


def restore(source: Path, places: Places) -> dict[str, int]:
    """Put a backup where settings say that an installation lies, and return the bytes of each part.

    Raises:
        BackupError: it is damaged, or something is there.
    """
    manifest = verify(source)
    for place in (places.lake, places.registry, places.files, places.signals, places.runs):
        if place.exists() and (place.is_file() or any(place.iterdir())):
            raise BackupError(f"{place} is there already: move it away, or set other places")
    parts = {LAKE: places.lake, FILES: places.files, SIGNALS: places.signals, RUNS: places.runs}
    for part, place in parts.items():
        _copy_missing(source / part, place)
    if (source / REGISTRY).exists():
        places.registry.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source / REGISTRY / "mlflow.db", places.registry)
        _move_addresses(places.registry, manifest["artifacts"], str(places.files.resolve()))
    return _sizes(source)


def verify(source: Path) -> dict[str, Any]:
    """Return what a backup says of itself, once every file is as it was written.

    Raises:
        BackupError: it is none, or a file is missing, added or changed.
    """
    try:
        manifest = json.loads((source / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise BackupError(f"{source} is no complete backup: it has no {MANIFEST}") from None
    found = dict(_digests(source))
    damaged = sorted(name for name in {*found, *manifest["files"]} if found.get(name) != manifest["files"].get(name))
    if damaged:
        raise BackupError(f"{source} is damaged: {len(damaged)} files are not as written, such as {damaged[0]}")
    return manifest


def _copy(places: Places, target: Path) -> None:
    tables = frozenset(path.parent for path in places.lake.rglob("_delta_log"))
    for table in sorted(tables):
        _copy_table(places.lake, table, target / LAKE)
    # A table's log would name files by now that were not copied with it.
    _copy_missing(places.lake, target / LAKE, without=tables)
    if places.registry.exists():
        _copy_database(places.registry, target / REGISTRY / "mlflow.db")
    _copy_missing(places.files, target / FILES)
    if places.signals.exists():
        _copy_signals(places.signals, target / SIGNALS)
    _copy_missing(places.runs, target / RUNS)


def _copy_table(lake: Path, table: Path, target: Path) -> None:
    """Copy a table: its log first, which names only files that are there, and then those."""
    name = table.relative_to(lake)
    for _ in range(ATTEMPTS):
        with suppress(FileNotFoundError):
            shutil.rmtree(target / name, ignore_errors=True)
            _copy_missing(table / "_delta_log", target / name / "_delta_log")
            _copy_missing(table, target / name)
            opened = Lakehouse(uri=str(target)).open(str(name))
            if all(Path(uri.removeprefix("file://")).exists() for uri in opened.file_uris()):
                return
    raise BackupError(f"{name} changes faster than it can be copied: try again")


def _copy_missing(source: Path, target: Path, without: frozenset[Path] = frozenset()) -> None:
    """Copy what a folder has and another has not; databases as their own means copy them."""
    files = [path for path in source.rglob("*") if path.is_file() and without.isdisjoint(path.parents)]
    for path in sorted(files):
        copy = target / path.relative_to(source)
        if copy.exists() or path.name.endswith(("-wal", "-shm", "-journal")):
            continue
        if path.suffix == ".db":
            _copy_database(path, copy)
        else:
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, copy)


def _copy_database(source: Path, target: Path) -> None:
    """Copy a SQLite database as of one moment, also while others write into it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(source)) as read, closing(sqlite3.connect(target)) as written:
        read.backup(written)


def _copy_signals(source: Path, target: Path) -> None:
    """Copy the signal store as of one moment, also while others write into it."""
    import lmdb

    target.mkdir(parents=True, exist_ok=True)
    with lmdb.open(str(source), readonly=True) as store:
        store.copy(str(target), compact=True)


def _move_addresses(database: Path, before: str, after: str) -> None:
    """Have a registry name its models' files where they lie now."""
    if before == after:
        return
    with closing(sqlite3.connect(database)) as connection, connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        for table in tables & ADDRESSES.keys():
            for column in ADDRESSES[table]:
                moved = f"UPDATE {table} SET {column} = replace({column}, ?, ?) WHERE {column} IS NOT NULL"  # noqa: S608
                connection.execute(moved, [before, after])


def _digests(folder: Path) -> Iterator[tuple[str, str]]:
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = str(path.relative_to(folder))
        if name != MANIFEST:
            digest = sha256()
            with path.open("rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
            yield name, digest.hexdigest()


def _sizes(folder: Path) -> dict[str, int]:
    parts = [part for part in (LAKE, REGISTRY, FILES, SIGNALS, RUNS) if (folder / part).exists()]
    return {part: sum(path.stat().st_size for path in (folder / part).rglob("*") if path.is_file()) for part in parts}
