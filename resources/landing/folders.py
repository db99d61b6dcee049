"""Files of a landing folder. Symbolic links are followed as long as they stay inside it."""

import logging
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path, PurePath

from resources.landing import corpora
from resources.landing.readers import Read, has_reader, read_corpus, read_declarations, reader
from resources.landing.records import Record, ReplacedError, source_name, state_number

# Seconds within which two writes may get the same timestamp: the longest tick of a kernel's clock.
CLOCK_TICK = 0.01


@dataclass(frozen=True)
class LocalFile:
    """A file that has landed in a folder: see ``LandingFile``.

    Attributes:
        folder: kind of its records, a key of ``readers.FOLDERS``.
        name: path below the landing folder; names the source in every table.
        path: its path.
        read: yields its records, given the limit of bytes of one.
    """

    folder: str
    name: str
    path: Path
    read: Read

    @property
    def state(self) -> int:
        """See ``LandingFile``. Every write changes the size or a time, even one that sets the other time back."""
        stat = self._stat()
        return state_number(stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns) if stat else 0

    def records(self, max_bytes: int) -> Iterator[Record]:
        """See ``LandingFile``."""
        stat = self._stat()
        wait = stat.st_ctime_ns / 10**9 + CLOCK_TICK - time.time() if stat else 0
        if wait > 0:
            time.sleep(min(CLOCK_TICK, wait))
        yield from self.read(self.path, max_bytes)

    def _stat(self) -> os.stat_result | None:
        try:
            return self.path.stat()
        except (FileNotFoundError, NotADirectoryError):
            raise ReplacedError(self.name) from None
        except OSError:  # such a file cannot be read either, and the read reports that
            return None


def landed_files(root: Path, folder: str) -> list[LocalFile]:
    """Return the files of one kind below a landing folder, in order of their names.

    A symbolic link that leads out of the landing folder is skipped with a warning. One that stays inside adds the files
    that it leads to, unless they are found without it.
    """
    readers = {path: reader(path.relative_to(root), folder, written_at) for path in _files_below(root, folder)}
    if folder == "supply_chain":
        declared_by = {root / name: domain for name, domain in corpora.DECLARED_BY.items()}
        for path in _inside(root, declared_by):
            readers[path] = partial(read_declarations, declared_by=declared_by[path], written=written_at)
    for corpus in corpora.CORPORA:
        if corpus.folder == folder:
            read = partial(read_corpus, corpus=corpus, root=root)
            readers |= dict.fromkeys(_inside(root, sorted(root.glob(corpus.files))), read)
    return [LocalFile(folder, source_name(path, root), path, read) for path, read in readers.items()]


def written_at(path: Path) -> int:
    """Return when a file was put at its path, in milliseconds since 1970.

    Unlike the modification time, it grows with each version, even where an older file is restored.
    """
    return path.stat().st_ctime_ns // 10**6


def _files_below(root: Path, folder: str) -> list[Path]:
    """Return the sorted paths of files of one kind; a file found directly precedes a link to it."""
    real_root, top = os.path.realpath(root), os.path.realpath(root / folder)
    visited: dict[str, PurePath | None] = {}
    links, outside = [PurePath(folder)], []
    while links:
        link = links.pop(0)
        real = os.path.realpath(root / link)
        if not Path(real).is_relative_to(real_root):
            outside.append(root / link)
        elif real == top or not Path(top).is_relative_to(real):  # a link to a parent folder would recur
            links = sorted(links + _walk(real, link, folder, visited))
    _warn_of_links(root, outside)
    return sorted(root / path for path in visited.values() if path)


def _walk(real: str, path: PurePath, folder: str, visited: dict[str, PurePath | None]) -> list[PurePath]:
    """Add the files below a path to ``visited`` by their real paths (folders as None); return the links below it."""
    links, pending = list[PurePath](), [(real, path)]
    if has_reader(path, folder) and Path(real).is_file():
        visited.setdefault(real, path)
    while pending:
        real, path = pending.pop()
        if real in visited:
            continue
        visited[real] = None
        for entry in _entries(real):
            if entry.name.startswith((".", "_")):
                continue
            entry_path = path / entry.name
            if entry.is_symlink():
                links.append(entry_path)
            elif entry.is_dir():
                pending.append((entry.path, entry_path))
            elif entry.is_file() and has_reader(entry_path, folder):
                visited.setdefault(entry.path, entry_path)
    return links


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        _warn_once(f"{folder!r} cannot be looked into, and is not read: {error.strerror}")
        return []


def _inside(root: Path, paths: Iterable[Path]) -> list[Path]:
    """Return the paths of files that really lie below the landing folder; warn of the others."""
    real_paths = {path: Path(os.path.realpath(path)) for path in paths if path.is_file()}
    inside = [path for path, real in real_paths.items() if real.is_relative_to(os.path.realpath(root))]
    _warn_of_links(root, [path for path in real_paths if path not in inside])
    return inside


def _warn_of_links(root: Path, links: list[Path]) -> None:
    if links:
        names = ", ".join(repr(source_name(link, root)) for link in links[:3])
        more = f" and {len(links) - 3} more" if len(links) > 3 else ""
        _warn_once(f"links that lead out of the landing folder are not read: {names}{more}")


@lru_cache(maxsize=1_000)
def _warn_once(message: str) -> None:
    logging.getLogger(__name__).warning("%s", message)
