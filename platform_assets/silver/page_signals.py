"""One row is one fetched page with all its signals: topic, threat, sentiment, keywords, images.

Each task has a column, from the decision of the version that the page is assigned to: the champion, or a challenger
within its share of the traffic. ``risk`` is the worst of text and images, or ``unknown`` while one of them has no
decision, or a picture cannot be read; an unknown page is not ``brand_safe``. A page without any decision has no row.
"""

from functools import partial

import dagster as dg

from platform_assets.conventions import table_spec
from platform_assets.publishing import start
from platform_assets.silver.images import with_unreadable
from resources.lakehouse.tables import Lakehouse
from resources.registry.models import Registry
from signals.consumer_record import page_record
from signals.decisions import decided, newest_answers

TABLE = "silver/page_signals"
INPUTS = ("silver/pages", "silver/images", "silver/decisions")


@dg.asset(**table_spec(TABLE, __doc__, inputs=INPUTS))
def page_signals(
    context: dg.AssetExecutionContext, lakehouse: dg.ResourceParam[Lakehouse], registry: dg.ResourceParam[Registry]
) -> dg.MaterializeResult:
    """Pivot each page's decisions into one row."""
    write = start(context, lakehouse, TABLE, INPUTS)
    pages, images = (lakehouse.read(table, write.days) for table in ("silver/pages", "silver/images"))
    images = with_unreadable(images, pages, lakehouse)
    traffic = registry.traffic()
    answers = newest_answers(lakehouse.read("silver/decisions", write.days), traffic)
    with_answers = decided(pages, answers, traffic, "page")
    undecided = {"rows_undecided": pages.height - with_answers.height}
    return write.publish(partial(page_record, images=images, answers=answers), with_answers, metadata=undecided)
