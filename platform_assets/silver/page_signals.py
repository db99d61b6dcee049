"""One row is one fetched page with everything that is known about it: topic, threat, tone, key words, pictures.

Key: tenant_id, url and fetched_at. Grain: one fetch. One column a task, from the decision of the version that the page
is assigned to: the champion, or a challenger within its share of the traffic. ``risk`` is the worst of text and
pictures, or ``unknown`` while one of them has not been judged; what is unknown is not ``brand_safe``. A page about
which nothing has been answered yet has no row. Owner: ml.
"""

from functools import partial

import dagster as dg
import polars as pl

from platform_assets.conventions import described
from platform_assets.decision_pivot import FETCH, decided, newest_answers, pivoted, worst_picture
from platform_assets.publishing import start
from resources.lakehouse.tables import Lakehouse
from resources.registry.models import Registry
from signals.classify import ASKED_ABOUT
from signals.consumer_record import with_risk
from signals.features.keywords import keywords

TABLE = "silver/page_signals"
INPUTS = ("silver/pages", "silver/images", "silver/decisions")
CARRIED = (
    "document_id",
    "url",
    "site",
    "tenant_id",
    "fetched_at",
    "published_on",
    "language",
    "title",
    "content_hash",
)
PROVENANCE = ("source", "position", "received_at", "event_date")


@dg.asset(**described(TABLE, __doc__, owner="ml", inputs=INPUTS, rules=True))
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
    return write.publish(partial(signals_of_pages, images=images, answers=answers), known, metadata=undecided)


def signals_of_pages(pages: pl.DataFrame, images: pl.DataFrame, answers: pl.DataFrame) -> pl.DataFrame:
    """Return pages with their signals.

    Args:
        pages: silver/pages.
        images: silver/images of the same days.
        answers: one decision a document and task.
    """
    told = pivoted(answers.filter(pl.col("kind") == "page"), "page")
    pictures = worst_picture(images, answers.filter(pl.col("kind") == "image"))
    words = pages["text"].str.len_chars().cast(pl.Int64)
    rows = pages.select(*CARRIED, *PROVENANCE).with_columns(keywords=keywords(pages["text"]), characters=words)
    rows = rows.join(told, on=ASKED_ABOUT, how="left", maintain_order="left")
    return with_risk(rows.join(pictures, on=FETCH, how="left", maintain_order="left"))
