"""One row is one fetched page with everything that is known about it: topic, threat, tone, key words, pictures.

One column a task, from the decision of the version that the page is assigned to: the champion, or a challenger within
its share of the traffic. ``risk`` is the worst of text and pictures, or ``unknown`` while one of them has not been
judged; what is unknown is not ``brand_safe``. A page about which nothing has been answered yet has no row.
"""

from functools import partial

import dagster as dg

from platform_assets.conventions import table_spec
from platform_assets.publishing import start
from resources.lakehouse.tables import Lakehouse
from resources.registry.models import Registry
from signals.consumer_record import decided, newest_answers, page_record

TABLE = "silver/page_signals"
INPUTS = ("silver/pages", "silver/images", "silver/decisions")


@dg.asset(**table_spec(TABLE, __doc__, inputs=INPUTS))
def page_signals(
    context: dg.AssetExecutionContext, lakehouse: dg.ResourceParam[Lakehouse], registry: dg.ResourceParam[Registry]
) -> dg.MaterializeResult:
    """Put each page's answers side by side."""
    write = start(context, lakehouse, TABLE, INPUTS)
    pages, images = (lakehouse.read(table, write.days) for table in ("silver/pages", "silver/images"))
    traffic = registry.traffic()
    answers = newest_answers(lakehouse.read("silver/decisions", write.days), traffic)
    known = decided(pages, answers, traffic, "page")
    undecided = {"rows_undecided": pages.height - known.height}
    return write.publish(partial(page_record, images=images, answers=answers), known, metadata=undecided)
