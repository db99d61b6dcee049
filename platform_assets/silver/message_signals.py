"""One row is one message with all its signals, and its keywords.

Each task has a column, from the decision of the version that the message is assigned to: the champion, or a challenger
within its share of the traffic.
"""

from functools import partial

import dagster as dg

from platform_assets.conventions import table_spec
from platform_assets.publishing import start
from resources.lakehouse.tables import Lakehouse
from resources.registry.models import Registry
from signals.consumer_record import message_record
from signals.decisions import decided, newest_answers

TABLE = "silver/message_signals"
INPUTS = ("silver/messages", "silver/decisions")


@dg.asset(**table_spec(TABLE, __doc__, inputs=INPUTS))
def message_signals(
    context: dg.AssetExecutionContext, lakehouse: dg.ResourceParam[Lakehouse], registry: dg.ResourceParam[Registry]
) -> dg.MaterializeResult:
    """Pivot each message's decisions into one row."""
    write = start(context, lakehouse, TABLE, INPUTS)
    messages = lakehouse.read("silver/messages", write.days)
    traffic = registry.traffic()
    answers = newest_answers(lakehouse.read("silver/decisions", write.days), traffic)
    with_answers = decided(messages, answers, traffic, "message")
    undecided = {"rows_undecided": messages.height - with_answers.height}
    return write.publish(partial(message_record, answers=answers), with_answers, metadata=undecided)
