"""One row is one message with everything that the models say about it, and its key words.

Key: tenant_id and message_id. Grain: one message. One column a task, from the decision of the version that the message
is assigned to: the champion, or a challenger within its share of the traffic. Owner: ml.
"""

from functools import partial

import dagster as dg
import polars as pl

from platform_assets.conventions import described
from platform_assets.decision_pivot import decided, newest_answers, pivoted
from platform_assets.publishing import start
from resources.lakehouse.tables import Lakehouse
from resources.registry.models import Registry
from signals.classify import ASKED_ABOUT
from signals.documents.text import plain_texts
from signals.features.keywords import keywords

TABLE = "silver/message_signals"
INPUTS = ("silver/messages", "silver/decisions")
CARRIED = (
    "message_id",
    "document_id",
    "author_id",
    "author_consents",
    "tenant_id",
    "platform",
    "sent_at",
    "content_hash",
)
PROVENANCE = ("source", "position", "received_at", "event_date")


@dg.asset(**described(TABLE, __doc__, owner="ml", inputs=INPUTS, rules=True))
def message_signals(
    context: dg.AssetExecutionContext, lakehouse: dg.ResourceParam[Lakehouse], registry: dg.ResourceParam[Registry]
) -> dg.MaterializeResult:
    """Put each message's answers side by side."""
    write = start(context, lakehouse, TABLE, INPUTS)
    messages = lakehouse.read("silver/messages", write.days)
    traffic = registry.traffic()
    answers = newest_answers(lakehouse.read("silver/decisions", write.days), traffic)
    known = decided(messages, answers, traffic, "message")
    undecided = {"rows_undecided": messages.height - known.height}
    return write.publish(partial(signals_of_messages, answers=answers), known, metadata=undecided)


def signals_of_messages(messages: pl.DataFrame, answers: pl.DataFrame) -> pl.DataFrame:
    """Return messages with their signals.

    Args:
        messages: silver/messages.
        answers: one decision a document and task.
    """
    told = pivoted(answers.filter(pl.col("kind") == "message"), "message")
    text = pl.Series(plain_texts(messages["text_as_sent"]), dtype=pl.String)
    rows = messages.select(*CARRIED, *PROVENANCE).with_columns(keywords=keywords(text))
    return rows.join(told, on=ASKED_ABOUT, how="left", maintain_order="left")
