"""The block of the risk page on the gravest pages."""

from typing import Any

import polars as pl

from platform_assets.reports.page import Column, Grid
from platform_assets.reports.risk_measures import IS_RISKY, RANK, THREAT_NAMES
from platform_assets.reports.text import plural
from resources.lakehouse.days import DAY

MAX_PAGES = 15


def gravest(signals: pl.DataFrame) -> pl.DataFrame:
    """Return the newest signals of the gravest pages: by risk, then by score."""
    newest = signals.sort("fetched_at", "url").unique(["tenant_id", "document_id"], keep="last").filter(IS_RISKY)
    order = [False, True, False]
    return newest.sort(RANK, "threat_score", "url", descending=order, nulls_last=True).head(MAX_PAGES)


def listing(worst: pl.DataFrame, answers: pl.DataFrame) -> Grid:
    """Return the table of the gravest pages, with the decision about each."""
    title = f"The {MAX_PAGES} gravest, the surest first"
    if worst.is_empty():
        return Grid(title)
    newest = answers.rename({"label": "threat"}).sort("decided_at", "decision_id")
    key = ["tenant_id", "document_id", "threat"]
    rows = worst.join(newest.unique(key, keep="last"), on=key, how="left", maintain_order="left").with_columns(
        title=pl.coalesce(pl.col("title").replace("", None), "url"), threat_name=pl.col("threat").replace(THREAT_NAMES)
    )
    floor = worst.filter(pl.col("risk") == "floor").height
    reading = (
        f"{floor} of these {plural(worst.height, 'page')} {'is' if floor == 1 else 'are'} floor content. "
        "The words spoke most for the threat; “seamless explain” with a page's address shows the passage."
    )
    columns = [
        Column("risk", "Risk", "chip"),
        Column("threat_name", "Threat"),
        Column("threat_score", "Score", "decimal"),
        Column("words", "Words"),
        Column("title", "Page", "title", link="url"),
        Column("site", "Site", "name"),
        Column(DAY, "Judged", "moment"),
        Column("decision_id", "Decision", "code"),
    ]
    return Grid(title, reading, columns, [row | {"words": _telling_words(row)} for row in rows.to_dicts()])


def _telling_words(page: dict[str, Any]) -> str:
    """Return the words of the evidence for a page's threat."""
    of_threat = (one["words"] for one in page["evidence"] or [] if one["label"] == page["threat"])
    return ", ".join(next(of_threat, []))
