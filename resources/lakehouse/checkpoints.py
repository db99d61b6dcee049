"""What a table keeps beside its rows, in the commit that holds them: numbers by name, Delta's application transactions.

Every kind of name is here, with what its number means. A source's own name keeps how far the source has been read.
"""

from collections.abc import Mapping
from dataclasses import dataclass

# Number of a checkpoint, and milliseconds since 1970 of its commit, or 0; by name.
Checkpoints = Mapping[str, tuple[int, int]]


@dataclass(frozen=True)
class Kind:
    """One kind of checkpoint: those whose names begin alike."""

    prefix: str

    def name(self, *of: str) -> str:
        """Return the name of the checkpoint of a day, a file or another table."""
        return ":".join((self.prefix, *of))

    def among(self, kept: Checkpoints, *of: str) -> dict[str, int]:
        """Return the numbers of all checkpoints of this kind, by what they are of."""
        before = f"{self.name(*of)}:"
        return {name.removeprefix(before): number for name, (number, _) in kept.items() if name.startswith(before)}


# Version at which a day was last changed other than by a stream, by day.
CHANGED = Kind("changed")
# Version at which a day was marked to be made again, for a look-up would find something else, by day.
INVALIDATED = Kind("due")
# Version of a looked-up table up to which all days are known to be right, by table.
CHECKED = Kind("checked")
# Version of a looked-up table with which a day was made, by table and day.
READ = Kind("read")
# Fingerprint of the model versions that a day's documents were asked of, by day.
ASKED = Kind("asked")
# How far a landed file has been read, by file; and the digest of what that was.
LANDED, DIGEST = Kind("landing"), Kind("digest")
# State of a landed file when it was looked at last, doubled, and one more where it was read to its end; by file.
SEEN = Kind("seen")
# When everything in a bucket was looked at last, by bucket.
LISTED = Kind("listed")
# Commits that an incremental source has made, by source.
COMMITS = Kind("commits")
# Versions at which rows were last inserted, and at which small files were last put together.
INSERTED, COMPACTED = "inserts", "compacted"


def made_from(by: str, day: str) -> str:
    """Return the name under which the fingerprint of a day's inputs is kept, as one maker of the table saw them."""
    return f"{by}:{day}"
