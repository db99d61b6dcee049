"""What each transformation gave for a few probes when it was first used, kept beside its bundle.

A machine that computes otherwise is found by it, and an upgrade is compared with it.
"""

import json
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from governance.gates.carry_over import policy
from resources.encoder import Encoder
from resources.lakehouse.files import file_system, write_file
from resources.lakehouse.tables import Lakehouse
from signals.documents.pages import Fetch, article
from signals.documents.text import document_text, normalise

TEXTS = (
    "The council opened a bridge over the river on Monday.",
    "I love this phone, best purchase ever 😍👍🏽 #happy",
    "Sch&ouml;ne Gr&uuml;&szlig;e aus Zürich &amp; Łódź, € 9½, \ufb01ne, naïve",
    "@someone see https://a.example/b?c=1 — “quoted” …",
    "東京で雨 مرحبا Привет नमस्ते",
)
PARAGRAPH = "The harbour was closed for two days while divers looked for the anchor of a ship. "
PAGE = (
    "<html><head><title>Harbour closed</title></head><body><nav><a href=/>Home</a></nav>"
    f"<article><h1>Harbour closed</h1><p>{PARAGRAPH * 3}</p><p>{PARAGRAPH * 2}</p></article></body>"
)


class OtherMachineError(RuntimeError):
    """This machine computes otherwise than the one on which the running transformation was first used."""


@dataclass(frozen=True)
class Outputs:
    """What a transformation gives for the probes.

    Attributes:
        encoder_id: identity of its vectors.
        texts: normal forms, the last of the page's article.
        vectors: of the texts, (texts, dimensions).
    """

    encoder_id: str
    texts: list[str]
    vectors: list[list[float]]

    @property
    def array(self) -> npt.NDArray[np.float32]:
        """The vectors, (texts, dimensions)."""
        return np.array(self.vectors, np.float32)


def outputs(encoder: Encoder) -> Outputs:
    """Return what the running transformation gives."""
    page = article(Fetch("https://a.example/harbour", html=PAGE))
    texts = [*map(normalise, TEXTS), document_text(page["title"], page["text"])]
    return Outputs(encoder.encoder_id, texts, encoder.encode(texts).tolist())


def stored(lakehouse: Lakehouse, transform_id: str) -> Outputs | None:
    """Return what a transformation gave when it was first used; None if that was not kept."""
    system, path = file_system(lakehouse, _name(transform_id))
    try:
        with system.open_input_stream(path) as file:
            return Outputs(**json.loads(file.read()))
    except FileNotFoundError:
        return None


def keep_or_test(lakehouse: Lakehouse, encoder: Encoder) -> None:
    """Keep what the running transformation gives, or compare it with what is kept.

    Raises:
        OtherMachineError: it gives something else here.
    """
    before, now = stored(lakehouse, encoder.transform_id), outputs(encoder)
    if before is None:
        write_file(lakehouse, _name(encoder.transform_id), json.dumps(asdict(now)).encode())
        return
    for number, (old, new) in enumerate(zip(before.texts, now.texts, strict=True), 1):
        if old != new:
            raise OtherMachineError(_message(f"probe {number} reads {new!r}, read {old!r}"))
    cosines = (before.array * now.array).sum(axis=1)
    if not cosines.min() >= policy().machine_cosine:
        found = f"the vector of probe {cosines.argmin() + 1} has cosine {cosines.min():.4f} to the one on record"
        raise OtherMachineError(_message(found))


def _message(found: str) -> str:
    return f"this machine computes otherwise under the same transform_id: {found}. Nothing is decided here."


def _name(transform_id: str) -> str:
    return f"transforms/{transform_id}.json"
