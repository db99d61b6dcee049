"""The record of decisions, as a role sees it: rows of gold/audit_trail, also of decisions that it does not hold yet."""

import re
from collections.abc import Sequence
from functools import cache

import polars as pl

from governance import catalog
from governance.access import AccessDeniedError, View, role, view
from governance.catalog import TENANT
from resources.lakehouse.days import days_of
from resources.lakehouse.tables import Lakehouse
from resources.settings import PROJECT
from signals.documents.addresses import addresses, site_of

TRAIL, DECISIONS, PAGES, SIGNALS = "gold/audit_trail", "silver/decisions", "silver/pages", "silver/page_signals"
# What the row of a decision is made from.
SOURCES = (DECISIONS, "operations/model_versions", "operations/promotions")
DECISION_ID = re.compile(r"[0-9a-f]{32}")
SQL = PROJECT / "dbt_gold" / "models" / f"{TRAIL}.sql"


class UnknownDecisionError(LookupError):
    """There is no such decision, or none about a page, that the role may see."""


def visible(as_role: str, tenant: str | None) -> View:
    """Return what a role sees of decisions.

    Raises:
        AccessDeniedError: unknown role, no tenant, or a role that may not read gold/audit_trail.
    """
    seen = view(role(as_role, tenant), tenant, TRAIL, tuple(catalog.table(TRAIL).classes))
    if seen is None:
        raise AccessDeniedError(f"role {as_role} may not read {TRAIL.replace('/', '.')}")
    return seen


def decision(lakehouse: Lakehouse, decision_id: str, seen: View) -> pl.DataFrame:
    """Return the record of one decision, in one row.

    Raises:
        UnknownDecisionError: there is none, or not for that view.
    """
    named = pl.col("decision_id") == decision_id
    for table in (DECISIONS, TRAIL):  # gold keeps them longer, silver has them sooner
        if lakehouse.exists(table):
            # The ids of all days are read, and other columns of one day only.
            days = days_of(lakehouse.scan(table).filter(named).select("event_date").collect())
            if days and (rows := records(lakehouse, [decision_id], days, seen)).height:
                return rows
    raise UnknownDecisionError(f"there is no decision {decision_id}")


def about_page(lakehouse: Lakehouse, url: str, seen: View) -> pl.DataFrame:
    """Return the records of what the newest signals of the page at an address say, a row a task.

    Raises:
        UnknownDecisionError: no decided page is held under that address, or not for that view.
    """
    missing = UnknownDecisionError(f"no decided page is held under {url}")
    if not lakehouse.exists(SIGNALS):
        raise missing
    pages = _pages(lakehouse, url, seen)
    signals = _of_tenant(lakehouse.scan(SIGNALS), seen).select(
        TENANT, "document_id", "fetched_at", "event_date", "decisions"
    )
    newest = signals.join(pages.lazy(), on=[TENANT, "document_id"], how="semi").collect().sort("fetched_at")
    newest = newest.unique([TENANT, "document_id"], keep="last")
    ids = newest["decisions"].explode().struct.field("decision_id").drop_nulls().to_list()
    rows = records(lakehouse, ids, days_of(newest), seen)
    if rows.is_empty():
        raise missing
    return rows


def _pages(lakehouse: Lakehouse, url: str, seen: View) -> pl.DataFrame:
    """Return tenant_id and document_id of the pages that were fetched at an address, in whatever form of it."""
    names, held = set(addresses(url)), pl.concat_list("normalized_url", "document_id")
    # Whatever folds to the same address contains its site.
    about = held.list.eval(pl.element().str.contains(site_of(url) or url, literal=True)).list.any()
    fetched = _of_tenant(lakehouse.scan(PAGES), seen).filter(about)
    rows = fetched.select(TENANT, "document_id", held=held).unique().collect()
    is_it = [any(not names.isdisjoint(addresses(one)) for one in of_page) for of_page in rows["held"]]
    return rows.filter(is_it).select(TENANT, "document_id").unique()


def records(lakehouse: Lakehouse, ids: Sequence[str], days: Sequence[str], seen: View) -> pl.DataFrame:
    """Return the records of some decisions of some days, sorted by task; gold's SQL makes those that it lacks."""
    told, decided = (_rows(lakehouse, table, ids, days, seen) for table in (TRAIL, DECISIONS))
    fresh = decided.join(told, on="decision_id", how="anti")
    rows = pl.concat([told, _with_training(lakehouse, fresh)] if fresh.height else [told], how="diagonal_relaxed")
    # A column that is new may be missing in what was stored before.
    shown = [pl.col(name) if name in rows.columns else pl.lit(None).alias(name) for name in seen.columns]
    return rows.select(shown).sort("document_id", "task")


def _rows(lakehouse: Lakehouse, table: str, ids: Sequence[str], days: Sequence[str], seen: View) -> pl.DataFrame:
    """Return the rows of some decisions of some days; none of a table that does not exist."""
    if not lakehouse.exists(table):
        return pl.DataFrame(schema={"decision_id": pl.String})
    return _of_tenant(lakehouse.scan(table, days), seen).filter(pl.col("decision_id").is_in(ids)).collect()


def _of_tenant(rows: pl.LazyFrame, seen: View) -> pl.LazyFrame:
    return rows if seen.tenant is None else rows.filter(pl.col(TENANT) == seen.tenant)


def _with_training(lakehouse: Lakehouse, decisions: pl.DataFrame) -> pl.DataFrame:
    """Return decisions as rows of gold/audit_trail, by the SQL of that table.

    Raises:
        TableMissingError: a copy of the registry does not exist yet.
    """
    import duckdb

    with duckdb.connect(":memory:", config={"threads": 2}) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        for table in SOURCES:
            rows = decisions if table == DECISIONS else lakehouse.read(table)
            connection.register(table.replace("/", "_"), rows.to_arrow())
        return pl.DataFrame(connection.sql(_sql()).to_arrow_table())


@cache
def _sql() -> str:
    from jinja2 import Template

    template = Template(SQL.read_text(encoding="utf-8"))
    return template.render(source=lambda layer, table: f"{layer}_{table}", in_run_days=lambda: "true")
