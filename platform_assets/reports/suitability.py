"""One row is one suitability profile on one day: the impressions of its organisation that it would have allowed.

An impression takes its page's newest signals as of then, else the first later ones, as the organisation itself has
them. ``unknown`` counts impressions without any. ``reach`` is the allowed share, and ``refused_by`` has the impressions
that each rule speaks against; several may speak against one. A row is by the profile as it was when its day was made,
which ``profile_digest`` names. Where the profile could not be read, ``fault`` says why, and nothing is counted.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl

from governance.catalog import TENANT
from governance.profiles import READS, Profile, ProfileError, judge
from platform_assets.conventions import table_spec
from platform_assets.publishing import start
from resources import profiles
from resources.lakehouse.days import DAY
from resources.lakehouse.key_index import KeyIndex
from resources.lakehouse.tables import Lakehouse
from resources.settings import settings

TABLE = "reports/suitability"
EVENTS, SIGNALS = "silver/ad_events", "silver/page_signals"
PAGE = [TENANT, "document_id"]
SCHEMA = {
    DAY: pl.Date,
    TENANT: pl.String,
    "profile": pl.String,
    "profile_digest": pl.String,
    "fault": pl.String,
    "impressions": pl.Int64,
    "unknown": pl.Int64,
    "allowed": pl.Int64,
    "reach": pl.Float64,
    "refused_by": pl.List(pl.Struct({"rule": pl.String, "impressions": pl.Int64})),
}


@dg.asset(**table_spec(TABLE, __doc__, inputs=(EVENTS,), deps=[SIGNALS]))
def suitability(context: dg.AssetExecutionContext, lakehouse: dg.ResourceParam[Lakehouse]) -> dg.MaterializeResult:
    """Judge the pages of impressions by the profiles of their organisation."""
    write = start(context, lakehouse, TABLE, (EVENTS,))
    shown = lakehouse.scan(EVENTS, write.days).filter(pl.col("event_type") == "impression").collect()
    pages = shown.select("document_id").drop_nulls()
    signals = KeyIndex(lakehouse, SIGNALS, ["document_id"]).scan(pages).collect()
    rows = judged(impressions(shown, signals), settings().suitability_profiles)
    lakehouse.replace_days(TABLE, write.days, rows, checkpoints=write.checkpoints)
    return write.result({"profiles": rows["profile"].n_unique()}, rows_out=rows.height)


def impressions(shown: pl.DataFrame, signals: pl.DataFrame) -> pl.DataFrame:
    """Return how often each page was shown under the same signals: day, tenant_id, shown_on, record, impressions.

    ``shown_on`` is the site that the events name, ``record`` what a profile reads of the signals, null without any.

    Args:
        shown: rows of silver/ad_events.
        signals: rows of silver/page_signals on the same documents.
    """
    records = signals.sort("fetched_at", "url", "content_hash").select(*PAGE, "fetched_at", record=pl.struct(READS))
    events = shown.select(DAY, *PAGE, "event_time", shown_on="site").sort("event_time")
    for record, strategy in (("before", "backward"), ("after", "forward")):
        events = events.join_asof(
            records.rename({"record": record}),
            left_on="event_time",
            right_on="fetched_at",
            by=PAGE,
            strategy=strategy,
            coalesce=True,
            check_sortedness=False,
        )
    events = events.with_columns(record=pl.when(pl.col("before").is_null()).then("after").otherwise("before"))
    by = [DAY, TENANT, "shown_on", "record"]
    return events.group_by(by, maintain_order=True).agg(impressions=pl.len().cast(pl.Int64))


def judged(shown: pl.DataFrame, folder: Path) -> pl.DataFrame:
    """Return the rows of this table.

    Args:
        shown: see ``impressions``.
        folder: of the profiles.
    """
    days = shown.partition_by(DAY, TENANT, as_dict=True)
    rows = [
        {DAY: day, TENANT: tenant, "profile": name, **_row(folder, tenant, name, pages.iter_rows(named=True))}
        for tenant, name in profiles.names(folder)
        for (day, owner), pages in days.items()
        if owner == tenant
    ]
    return pl.DataFrame(rows, schema=SCHEMA).sort(DAY, TENANT, "profile")


def _row(folder: Path, tenant: str, name: str, pages: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    try:
        profile = profiles.profile(folder, tenant, name)
    except ProfileError as error:
        return {"fault": str(error)}
    return {"fault": "it is gone"} if profile is None else counted(profile, pages)


def counted(profile: Profile, pages: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the figures of a profile on pages: see ``impressions``."""
    counts, refused = Counter(impressions=0, unknown=0, allowed=0), Counter[str]()
    for page in pages:
        verdict = judge(profile, page["record"], page["shown_on"])
        counts["impressions"] += page["impressions"]
        counts["unknown"] += page["impressions"] if page["record"] is None else 0
        counts["allowed"] += page["impressions"] if verdict.allowed else 0
        for rule in {reason.rule for reason in verdict.reasons}:
            refused[rule] += page["impressions"]
    by_rule = sorted(refused.items(), key=lambda item: (-item[1], item[0]))
    return {
        "profile_digest": profile.digest,
        **counts,
        "reach": round(counts["allowed"] / counts["impressions"], 6),
        "refused_by": [{"rule": rule, "impressions": number} for rule, number in by_rule],
    }
