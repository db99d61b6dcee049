"""What a day is made from: the rows that its own name, wherever they are, and no other day is opened."""

from datetime import UTC, date, datetime

import numpy as np
import polars as pl
import pytest

from platform_assets.aliases import Aliases
from platform_assets.bronze import review_labels, user_profiles
from platform_assets.ingestion import prepare
from platform_assets.silver import embeddings, labels, messages
from resources.lakehouse.days import DAY
from resources.lakehouse.key_index import KeyIndex
from resources.lakehouse.tables import Lakehouse
from signals.models.encoder import DIMENSIONS
from tests.support.delta import MON, TUE, WED, lose

AT = datetime(2026, 11, 9, 8, tzinfo=UTC)


class Encoder:
    """An encoder that gives every text one vector."""

    encoder_id = "e"

    def encode(self, texts):
        return np.ones((len(texts), DIMENSIONS), np.float32)


def days(**columns):
    """Return three rows, one a day."""
    rows = pl.DataFrame({name: [f"{value}-{number}" for number in range(3)] for name, value in columns.items()})
    return rows.with_columns(pl.Series(DAY, [date.fromisoformat(day) for day in (MON, TUE, WED)]))


@pytest.fixture
def lake(tmp_path):
    return Lakehouse(uri=str(tmp_path))


@pytest.fixture
def documents(lake):
    """Return a lakehouse in which the documents of Monday are indexed, and cannot be read any more."""
    pages = days(tenant_id="t", document_id="page", normalized_url="url", content_hash="h", title="T", text="x")
    lake.replace_all("silver/pages", pages.with_columns(fetched_at=pl.lit(AT)))
    sent = days(tenant_id="t", document_id="message", content_hash="m", text="x")
    lake.replace_all("silver/messages", sent.with_columns(sent_at=pl.lit(AT)))
    pictures = days(tenant_id="t", document_id="image", content_hash="i").with_columns(fetched_at=pl.lit(AT))
    lake.replace_all("silver/images", pictures)
    for table, column in (("pages", "document_id"), ("pages", "normalized_url"), ("messages", "document_id"),
                          ("images", "document_id")):  # fmt: skip
        KeyIndex(lake, f"silver/{table}", [column]).refresh()
    for table in ("pages", "messages", "images"):
        lose(lake, f"silver/{table}", MON)
    return lake


def test_vectors_are_looked_up_on_the_days_that_hold_them(lake):
    texts = days(content_hash="h", text="x")
    embeddings.store(lake, embeddings.encoded(texts, Encoder()))
    embeddings.unencoded(lake, texts, "e")
    lose(lake, embeddings.TABLE, MON)
    asked = pl.concat([texts[1:2], days(content_hash="new", text="x")[2:]])
    assert embeddings.unencoded(lake, asked, "e")["content_hash"].to_list() == ["new-2"]
    assert sorted(embeddings.vectors(lake, Encoder(), asked)["content_hash"]) == ["h-1", "new-2"]
    embeddings.store(lake, embeddings.encoded(asked, Encoder()))
    assert lake.count(embeddings.TABLE) == 4
    with pytest.raises(FileNotFoundError):
        embeddings.vectors(lake, Encoder(), texts)


def test_documents_of_labels_are_looked_up_on_the_days_that_hold_them(documents):
    schema = review_labels.SCHEMA
    prepare(documents, schema, AT)
    received = documents.read(schema.table).clear()
    named = pl.DataFrame({"document_id": ["page-1", "url-2", "message-1", "image-2", "nothing"]})
    found = labels.labelled_documents(documents, pl.concat([received, named], how="diagonal_relaxed"))
    assert sorted(found["name"]) == ["image-2", "message-1", "page-1", "url-2"]
    with pytest.raises(FileNotFoundError):
        labels.labelled_documents(documents, named.with_columns(document_id=pl.lit("page-0")))


def test_addresses_of_pages_are_looked_up_on_the_days_that_hold_them(documents):
    asked = pl.DataFrame({"tenant_id": ["t-1", "t-1", "x"], "normalized_url": ["url-1", "url-2", "nothing"]})
    named = Aliases(documents).with_document_id(asked)
    assert named["document_id"].to_list() == ["page-1", "page-2", "nothing"]
    with pytest.raises(FileNotFoundError):
        Aliases(documents).with_document_id(asked.with_columns(normalized_url=pl.lit("url-0")))


def test_profiles_of_authors_are_looked_up_on_the_days_that_hold_them(lake):
    prepare(lake, user_profiles.SCHEMA, AT)
    profiles = days(user_id="u", tenant_id="t", source="f").with_columns(position=pl.int_range(3, dtype=pl.Int64))
    empty = lake.read(user_profiles.SCHEMA.table)
    lake.append_once(user_profiles.SCHEMA.table, pl.concat([empty, profiles], how="diagonal_relaxed"), {}, {})
    authors = pl.DataFrame({"author_id": ["u-1", None, "nobody"]})
    assert messages.profiles_of(lake, authors)["user_id"].to_list() == ["u-1"]
    lose(lake, user_profiles.SCHEMA.table, MON)
    assert messages.profiles_of(lake, authors)["user_id"].to_list() == ["u-1"]
