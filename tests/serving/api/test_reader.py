import asyncio
import zlib
from io import BytesIO

import pytest
from PIL import Image

from resources.workers.pool import WorkerPool
from serving.api import reader
from serving.api.reader import Asked, read_within_budget
from signals.documents.pages import Fetch, article
from signals.documents.text import normal_forms

PAGE = f"<html lang=en><head><title>Flood</title></head><body><article><p>{'The river rose again. ' * 30}</p></article>"


def png(width, height):
    """Return a picture of few bytes and many pixels."""
    made = BytesIO()
    Image.new("1", (width, height)).save(made, "png")
    return made.getvalue()


@pytest.fixture(scope="module")
def ask():
    """Return a function that has documents read by a process of their own."""
    workers = WorkerPool(reader.__name__, 1)

    async def read_all(asked):
        return await asyncio.gather(*(read_within_budget(workers, one) for one in asked))

    yield lambda *asked: asyncio.run(read_all(asked))
    workers.close()


def test_a_document_is_read_as_batch_reads_it(ask):
    url = "https://a.example/x?utm_source=y"
    said = "@ada look: https://b.example &amp; go"
    asked = (Asked("page", url, html=PAGE), Asked("message", text=said), Asked("image", image=png(8, 8)))
    page, message, picture = ask(*asked)
    of_batch = article(Fetch(url, html=PAGE))
    assert {name: getattr(page, name) for name in ("document_id", "title", "text", "content_hash", "language")} == {
        name: of_batch[name] for name in ("document_id", "title", "text", "content_hash", "language")
    }
    texts, hashes = normal_forms([said])
    assert (message.text, message.content_hash) == (texts[0], hashes[0])
    assert picture.failure is None


HOSTILE = {
    "nested": Asked("page", html="<div>" * 200_000 + "x"),
    "many attributes": Asked("page", html="<p " + "a=1 " * 500_000 + ">"),
    "no page": Asked("page", html="\0" * 1_000),
    "a bomb of pixels": Asked("image", image=png(40_000, 40_000)),
    "a broken picture": Asked("image", image=png(64, 64)[:40]),
    "compressed nothing": Asked("image", image=zlib.compress(b"\0" * 10_000_000)),
}


@pytest.mark.parametrize("asked", HOSTILE.values(), ids=HOSTILE)
def test_hostile_documents_are_refused_by_name_and_the_next_is_read(ask, asked):
    refused, following, long = ask(asked, Asked("page", html=PAGE), Asked("message", text="a calm day " * 2_000))
    assert refused.failure
    assert following.title == "Flood"
    assert long.text.startswith("a calm day")
