"""What a transformation is made of, kept in the lakehouse under its transform_id, so that it can be run again.

A bundle has our source of the transformation, the lock of all libraries, and a manifest with digests of the weights.
"""

import io
import json
import platform
import tarfile
import unicodedata
import uuid
from importlib.metadata import version

from resources import transform_probes
from resources.encoder import Encoder
from resources.lakehouse.files import file_system, write_file
from resources.lakehouse.tables import Lakehouse
from resources.settings import PROJECT
from signals.models.transform import ANSWER, DISTRIBUTIONS, sources

FOLDER, LOCK, MANIFEST = "transforms", "requirements.lock", "manifest.json"
# Any of these may encode; what an identity says decides which did.
ENCODERS = ("signals.models.encoder", "signals.models.encoder_torch", "signals.models.sentence_encoder")

# Lakehouses and bundles that this process has tested itself against.
_tested: set[tuple[str, str]] = set()


def kept(lakehouse: Lakehouse, transform_id: str) -> str | None:
    """Return the address of a transformation's bundle; None if there is none."""
    from pyarrow.fs import FileType

    system, path = file_system(lakehouse, _name(transform_id))
    return f"{lakehouse.uri}/{_name(transform_id)}" if system.get_file_info(path).type == FileType.File else None


def keep(lakehouse: Lakehouse, encoder: Encoder) -> None:
    """Write the bundle of the running transformation, unless it is there; a kill leaves all of it or none.

    Once a process, what it gives for the probes is kept or tested too.

    Raises:
        OtherMachineError: this machine computes otherwise than the one that wrote the bundle.
    """
    name = _name(encoder.transform_id)
    if (lakehouse.uri, name) in _tested:
        return
    transform_probes.keep_or_test(lakehouse, encoder)
    if kept(lakehouse, encoder.transform_id) is None:
        draft = f"{name}.{uuid.uuid4().hex}"
        write_file(lakehouse, draft, bundle(encoder))
        system, path = file_system(lakehouse, name)
        system.move(file_system(lakehouse, draft)[1], path)
    _tested.add((lakehouse.uri, name))


def bundle(encoder: Encoder) -> bytes:
    """Return the bundle of the running transformation, a gzipped tar archive."""
    modules, libraries = sources((*ANSWER, *ENCODERS))
    files = [f"{module.replace('.', '/')}.py" for module in sorted(modules)]
    manifest = {
        "transform_id": encoder.transform_id,
        "encoder": encoder.identity,
        "python": platform.python_version(),
        "unicode": unicodedata.unidata_version,
        "libraries": {name: version(DISTRIBUTIONS.get(name, name)) for name in sorted(libraries)},
    }
    contents = {file: (PROJECT / file).read_bytes() for file in (*files, LOCK)}
    contents[MANIFEST] = json.dumps(manifest, indent=1).encode()
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, content in contents.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


def _name(transform_id: str) -> str:
    return f"{FOLDER}/{transform_id}.tar.gz"
