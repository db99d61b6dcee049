import asyncio
import zlib
from io import BytesIO

import pytest
from PIL import Image

from serving.api import reader
from serving.api.reader import Asked, read
from serving.api.readers import Readers
from signals.documents.pages import Fetch, article
from signals.documents.text import content_hash, normal_forms

PAGE = f"<html lang=en><head><title>Flood</title></head><body><article><p>{'The river rose again. ' * 30}</p></article>"


def png(width, height):
    """Return a picture of few bytes and many pixels."""
    made = BytesIO()
    Image.new("1", (width, height)).save(made, "png")
    return made.getvalue()


@pytest.fixture(scope="module")
def ask():
    """Return a function that has documents read by processes of their own."""
    loop = asyncio.new_event_loop()
    readers = Readers(1)
    loop.run_until_complete(readers.start())

    async def read_all(asked):
        return await asyncio.gather(*map(readers.read, asked))

    yield lambda *asked: loop.run_until_complete(read_all(asked))
    loop.run_until_complete(readers.close())
    loop.close()


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


@pytest.mark.parametrize("greedy", ["memory", "time"])
def test_what_takes_too_much_is_ended_alone(monkeypatch, greedy):
    def read_too_much(_):
        if greedy == "memory":
            return bytearray(reader.MEMORY * 2)
        while True:
            pass

    monkeypatch.setattr(reader, "read", read_too_much)
    monkeypatch.setattr(reader, "SECONDS", 0.3)
    answer = reader._in_a_child(reader.msgspec.msgpack.encode(Asked("message", text="x")))
    assert reader.msgspec.msgpack.decode(answer, type=reader.Read).failure == reader.TOO_COSTLY
    monkeypatch.undo()
    assert read(Asked("message", text="x")).content_hash == content_hash("x")


def test_a_process_that_ends_is_replaced():
    async def scenario():
        readers = Readers(1)
        await readers.start()
        process = await readers._free.get()
        process.kill()
        readers._free.put_nowait(process)
        lost, again = [await readers.read(Asked("page", html=PAGE)) for _ in range(2)]
        await readers.close()
        return lost, again

    lost, again = asyncio.run(scenario())
    assert lost.failure in {None, reader.TOO_COSTLY}
    assert again.title == "Flood"
