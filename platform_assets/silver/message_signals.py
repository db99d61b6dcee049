"""One row is one message with everything that the models say about it, and its key words.

One column a task, from the decision of the version that the message is assigned to: the champion, or a challenger
within its share of the traffic.
"""

from functools import partial

import dagster as dg

from platform_assets.conventions import table_spec
from platform_assets.publishing import start
from resources.lakehouse.tables import Lakehouse
from resources.registry.models import Registry
from signals.consumer_record import decided, message_record, newest_answers

TABLE = "silver/message_signals"
INPUTS = ("silver/messages", "silver/decisions")


@dg.asset(**table_spec(TABLE, __doc__, inputs=INPUTS))
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
    return write.publish(partial(message_record, answers=answers), known, metadata=undecided)
