"""One row is one social message in its normal form, with what its author's profile allows.

Key: tenant_id and message_id. Grain: one message. ``text`` is the normal form that models see, in which links and
names are masked; ``text_as_sent`` is what was received. ``author_consents`` is the consent in the newest profile that
the organisation has of the author, or, where it has none, in one that is nobody's in particular; null where there is
none. Owner: content.
"""

import dagster as dg
import polars as pl

from platform_assets.conventions import described
from platform_assets.publishing import begin
from platform_assets.tenants import DEFAULT_TENANT, beside
from resources.lakehouse import Lakehouse
from signals.text import normal_forms

TABLE = "silver/messages"
INPUTS = ("bronze/social_messages",)


@dg.asset(**described(TABLE, __doc__, owner="content", inputs=INPUTS, deps=["bronze/user_profiles"], rules=True))
def messages(context: dg.AssetExecutionContext, lakehouse: Lakehouse) -> dg.MaterializeResult:
    """Normalise each message, and add its author's country and consent."""
    hop = begin(context, lakehouse, TABLE, INPUTS)
    received = lakehouse.read("bronze/social_messages", hop.days)
    profiles = lakehouse.scan("bronze/user_profiles").filter(pl.col("user_id").is_in(received["author_id"].implode()))
    return hop.publish(cleaned(received, profiles.collect()), rows_in=received.height)


def cleaned(received: pl.DataFrame, profiles: pl.DataFrame) -> pl.DataFrame:
    """Return messages in their normal form, the first delivery of each first.

    Args:
        received: bronze/social_messages.
        profiles: bronze/user_profiles of their authors.
    """
    normal, hashes = normal_forms(received["text"])
    messages = received.with_columns(
        document_id="message_id",
        text_as_sent="text",
        text=pl.Series(normal, dtype=pl.String),
        content_hash=pl.Series(hashes, dtype=pl.String),
        sent_at=pl.coalesce("sent_at", "received_at"),
        tenant_id=pl.col("tenant_id").fill_null(DEFAULT_TENANT),
    ).sort("received_at", "source", "position")
    known = profiles.with_columns(tenant_id=pl.col("tenant_id").fill_null(DEFAULT_TENANT))
    newest = known.sort("updated_at", nulls_last=False).unique(["tenant_id", "user_id"], keep="last")
    authors = newest.select("tenant_id", author_id="user_id", author_country="country", author_consents="consent")
    return beside(messages, authors, "author_id")
