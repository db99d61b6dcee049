"""Suitability profiles of advertisers: one file each, in a folder of their organisation.

A file that has changed is read anew, so a change needs no restart.
"""

import re
from functools import lru_cache
from pathlib import Path

from governance.profiles import Profile, ProfileError, read_profile

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


def profile(folder: Path, tenant: str, name: str) -> Profile | None:
    """Return a profile, None where an organisation has none of this name.

    Raises:
        ProfileError: its file cannot be read; one line that names it.
    """
    if not NAME.fullmatch(tenant) or not NAME.fullmatch(name):
        return None
    file = folder / tenant / f"{name}.yaml"
    try:
        stat = file.stat()
        return _read(file, (stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns))
    except FileNotFoundError:
        return None
    except (OSError, UnicodeError, ProfileError) as error:
        raise ProfileError(f"profile {tenant}/{name}: {error}") from None


def names(folder: Path) -> list[tuple[str, str]]:
    """Return the organisation and the name of every profile."""
    files = sorted(folder.glob("*/*.yaml"))
    return [(file.parent.name, file.stem) for file in files if NAME.fullmatch(file.parent.name)]


@lru_cache(maxsize=1_000)
def _read(file: Path, state: tuple[int, ...]) -> Profile:  # noqa: ARG001 - part of the cache's key
    return read_profile(file.read_text(encoding="utf-8"))
