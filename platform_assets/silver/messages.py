"""One row is one social message in its normal form, with its author's country and consent.

``text`` is the normal form that models see, with links and names masked; ``text_as_sent`` is the received text.
``author_consents`` is the consent in the author's newest profile of the tenant, else of the default tenant; null
without a profile.
"""

from functools import partial

import dagster as dg
import polars as pl

from platform_assets.bronze import user_profiles
from platform_assets.bronze.social_messages import SCHEMA
from platform_assets.conventions import table_spec
from platform_assets.parsing import declared
from platform_assets.publishing import start
from platform_assets.tenants import DEFAULT_TENANT, join_by_tenant
from resources.lakehouse.key_index import KeyIndex
from resources.lakehouse.tables import Lakehouse
from signals.documents.languages import languages_of
from signals.documents.text import normal_forms

TABLE = "silver/messages"
INPUTS = (SCHEMA.table,)
PROFILES = user_profiles.SCHEMA


@dg.asset(**table_spec(TABLE, __doc__, inputs=INPUTS, deps=[PROFILES.table]))
def messages(context: dg.AssetExecutionContext, lakehouse: dg.ResourceParam[Lakehouse]) -> dg.MaterializeResult:
    """Normalise each message, and add its author's country and consent."""
    write = start(context, lakehouse, TABLE, INPUTS)
    received = write.read_deliveries(SCHEMA)
    return write.publish(partial(cleaned, profiles=profiles_of(lakehouse, received)), received)


def profiles_of(lakehouse: Lakehouse, received: pl.DataFrame) -> pl.DataFrame:
    """Return the rows of bronze/user_profiles of the authors of messages."""
    authors = received.select(user_id="author_id").drop_nulls()
    return declared(KeyIndex(lakehouse, PROFILES.table, ["user_id"]).scan(authors).collect(), PROFILES)


def cleaned(received: pl.DataFrame, profiles: pl.DataFrame) -> pl.DataFrame:
    """Return messages in their normal form, with country and consent of their authors' newest profiles.

    A profile without a time has the time of receipt. Of several of one time, one without consent counts.

    Args:
        received: bronze/social_messages.
        profiles: bronze/user_profiles of their authors.
    """
    normal, hashes = normal_forms(received["text"])
    codes, scores = languages_of(normal)
    messages = received.with_columns(
        document_id="message_id",
        text_as_sent="text",
        text=pl.Series(normal, dtype=pl.String),
        content_hash=pl.Series(hashes, dtype=pl.String),
        language=pl.Series(codes, dtype=pl.String),
        language_score=pl.Series(scores, dtype=pl.Float64),
        sent_at=pl.coalesce("sent_at", "received_at"),
        tenant_id=pl.col("tenant_id").fill_null(DEFAULT_TENANT),
    )
    profiles = profiles.with_columns(
        tenant_id=pl.col("tenant_id").fill_null(DEFAULT_TENANT), at=pl.coalesce("updated_at", "received_at")
    )
    in_order = profiles.sort("at", pl.col("consent").fill_null(value=False).not_(), "source", "position")
    newest = in_order.unique(["tenant_id", "user_id"], keep="last", maintain_order=True)
    authors = newest.select("tenant_id", author_id="user_id", author_country="country", author_consents="consent")
    return join_by_tenant(messages, authors, "author_id")
