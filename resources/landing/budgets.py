"""What one record, one file and one commit may cost at most, in named units. A setting where an installation decides.

The bytes of a record are a setting: ``Settings.max_record_bytes``.
"""

# Records, and bytes of them, that one commit holds at most: what bounds memory, whatever the size of a file.
CHUNK = 50_000
CHUNK_BYTES = 16 << 20
# Bytes that a file of a research corpus may unpack to: it is read as a whole.
MAX_CORPUS_BYTES = 256 << 20
# Pixels of all pictures of a record together, and how many pictures that may be.
MAX_PIXELS_PER_RECORD = 100_000_000
MAX_PICTURES_PER_RECORD = 100
