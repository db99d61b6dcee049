"""Limits of one record, one file and one commit. The bytes of a record are a setting: ``Settings.max_record_bytes``."""

# Records of one commit, and their bytes: they bound memory, whatever the size of a file.
CHUNK = 50_000
CHUNK_BYTES = 16 << 20
# Unpacked bytes of a research corpus file, which is read as a whole.
MAX_CORPUS_BYTES = 256 << 20
# Pixels of all pictures of a record together, and number of these pictures.
MAX_PIXELS_PER_RECORD = 100_000_000
MAX_PICTURES_PER_RECORD = 100
