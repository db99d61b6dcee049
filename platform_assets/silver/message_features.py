"""One row is the features of one message: emoji, language, communication.

They are counted in the text that a reader sees, with escapes resolved, and names and links in it. Shares are of words,
delays in seconds, sentiment of emoji from -1 to 1.
"""

from functools import partial

import dagster as dg
import polars as pl

from platform_assets.conventions import table_spec
from platform_assets.publishing import start
from resources.lakehouse.key_index import KeyIndex
from resources.lakehouse.tables import Lakehouse
from signals.documents.text import plain_texts
from signals.features.communication import communication_features
from signals.features.emoji import emoji_features
from signals.features.linguistics import linguistic_features

TABLE = "silver/message_features"
INPUTS = ("silver/messages",)
CARRIED_COLUMNS = (
    "message_id",
    "author_id",
    "tenant_id",
    "sent_at",
    "source",
    "position",
    "received_at",
    "event_date",
)


@dg.asset(**table_spec(TABLE, __doc__, inputs=INPUTS))
def message_features(context: dg.AssetExecutionContext, lakehouse: dg.ResourceParam[Lakehouse]) -> dg.MaterializeResult:
    """Compute the features of each message, and the delay of each reply."""
    write = start(context, lakehouse, TABLE, INPUTS)
    messages = lakehouse.read("silver/messages", write.days)
    parent_ids = messages.select(message_id="reply_to").drop_nulls()
    parents = KeyIndex(lakehouse, "silver/messages", ["message_id"]).scan(parent_ids).collect()
    return write.publish(partial(features, parents=parents), messages)


def features(messages: pl.DataFrame, parents: pl.DataFrame) -> pl.DataFrame:
    """Return one row of features a message.

    Args:
        messages: silver/messages.
        parents: messages that they may reply to.
    """
    text = pl.Series("text", plain_texts(messages["text_as_sent"]), dtype=pl.String)
    communication = communication_features(messages.with_columns(text=text), parents).drop("message_id")
    parts = [messages.select(CARRIED_COLUMNS), emoji_features(text), linguistic_features(text), communication]
    return pl.concat(parts, how="horizontal", strict=True)
