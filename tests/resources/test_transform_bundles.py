"""What is kept of a transformation."""

import json
import tarfile
from pathlib import Path

import pytest

from resources.encoder import Encoder, packaged_weights
from resources.lakehouse.tables import Lakehouse
from resources.settings import PROJECT
from resources.transform_bundles import FOLDER, LOCK, MANIFEST, keep, kept
from signals.models.encoder import file_digest


@pytest.fixture
def lake(tmp_path):
    return Lakehouse(uri=str(tmp_path))


def test_a_bundle_has_the_source_and_lock_as_they_are_and_the_weights_digest(lake):
    encoder = Encoder()
    keep(lake, encoder)
    address = kept(lake, encoder.transform_id)
    assert address == f"{lake.uri}/{FOLDER}/{encoder.transform_id}.tar.gz"
    with tarfile.open(address) as archive:
        files = {entry.name: archive.extractfile(entry).read() for entry in archive}
    manifest = json.loads(files.pop(MANIFEST))
    assert manifest["transform_id"] == encoder.transform_id
    assert file_digest(packaged_weights()) in manifest["encoder"]
    assert {"signals/classify.py", "signals/models/encoder.py", "signals/documents/pages.py", LOCK} <= set(files)
    assert all(content == (PROJECT / name).read_bytes() for name, content in files.items())
    assert {"numpy", "onnxruntime"} <= set(manifest["libraries"])


def test_a_bundle_is_written_once_and_nothing_else_is_left(lake, monkeypatch):
    encoder = Encoder()
    keep(lake, encoder)
    monkeypatch.setattr("resources.transform_bundles.bundle", lambda _: pytest.fail("it was written again"))
    keep(lake, encoder)
    files = {file.name for file in Path(lake.uri, FOLDER).iterdir()}
    assert files == {f"{encoder.transform_id}.tar.gz", f"{encoder.transform_id}.json"}
    assert kept(lake, "0" * 16) is None
