"""`seamless audit`: what was decided, by what, trained on what, promoted by whom."""

import json
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from resources.access_log import AccessLog
from resources.identity import identity
from resources.settings import settings
from serving.cli.asking import AsRole, OfTenant, asking

# Likeliest labels that are shown; JSON has all of them.
SHOWN = 5
UNRECORDED = "not recorded"


class _ShowsByDefault(TyperGroup):
    """Takes what is no command as the argument of ``show``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        known = not args or args[0] in self.commands or args[0] in ctx.help_option_names
        return super().parse_args(ctx, args if known else ["show", *args])


audit_app = typer.Typer(
    cls=_ShowsByDefault,
    help="Show what was decided, by what, trained on what, promoted by whom: `seamless audit ID|URL`.",
    no_args_is_help=True,
)


@audit_app.command()
def show(
    name: Annotated[str, typer.Argument(metavar="ID|URL", help="Id of a decision, or address of a page.")],
    as_role: AsRole = None,
    tenant: OfTenant = None,
    output: Annotated[Literal["text", "json"], typer.Option("--format", help="How to print the records.")] = "text",
) -> None:
    """Show the record of a decision, or of what the newest signals of a page say; what `audit` does by default."""
    from resources.audit_trail import DECISION_ID, TRAIL, about_page, decision, visible
    from resources.lakehouse.tables import lakehouse
    from resources.signal_store.entries import encoded

    find = decision if DECISION_ID.fullmatch(name) else about_page
    with asking("audit", name, as_role, tenant) as (asks, answer):
        answer.tables = [TRAIL]
        rows = find(lakehouse(settings()), name, visible(asks.role, asks.tenant)).to_dicts()
        answer.rows = len(rows)
    if output == "json":
        sys.stdout.write(f"{encoded(rows).decode()}\n")
    else:
        typer.echo("\n\n".join("\n".join(lines(row)) for row in rows))


@audit_app.command()
def replay(
    name: Annotated[str | None, typer.Argument(metavar="ID", help="Id of a decision.")] = None,
    day: Annotated[
        datetime | None, typer.Option("--all", formats=["%Y-%m-%d"], help="Day whose decisions are all replayed.")
    ] = None,
    count: Annotated[int | None, typer.Option(min=1, help="Number of the newest decisions that are replayed.")] = None,
) -> None:
    """Make a decision again from the record, and compare; exit code 0 if it is the same to the last digit."""
    from resources.encoder import encoder
    from resources.lakehouse.tables import lakehouse
    from resources.registry.models import registry
    from serving.cli.replay import COMPARED, TABLE, decisions_of, replays

    if [name, day, count].count(None) != 2:
        raise typer.BadParameter("an ID, --all DAY or --count N is expected")
    with asking("audit replay", name or str(day or count)) as (asks, answer):
        answer.tables = [TABLE]
        asks.require("replay")
    tables, models, running = lakehouse(settings()), registry(settings()), encoder(settings())
    found = Counter[str]()
    for decisions in decisions_of(tables, name, str(day.date()) if day else None, count):
        for one in replays(tables, models, running, decisions):
            found[one.outcome] += 1
            if name or one.outcome != "same":
                told = one.outcome if one.outcome in COMPARED else "cannot be replayed"
                typer.echo(f"{one.decision_id}  {told}{one.why and f': {one.why}'}")
    if not name:
        lacking = ", ".join(f"{number:,} for want of {what}" for what, number in found.items() if what not in COMPARED)
        same, different = (f"{found[outcome]:,} {outcome}" for outcome in COMPARED)
        typer.echo(f"{found.total():,} decisions replayed: {', '.join(filter(None, (same, different, lacking)))}")
    if not found["same"] == found.total() > 0:
        raise typer.Exit(1)


@audit_app.command()
def verify() -> None:
    """Look for lines of the access log that were changed, removed, added or reordered; exit code 1 if there are any."""
    identity(settings(), datetime.now(UTC)).require("verify")
    log = AccessLog(settings())
    faults = list(log.faults())
    for fault in faults:
        typer.echo(fault)
    if not log.signed:
        typer.echo("no key is set (ACCESS_LOG_KEY): who can write both places can write another log", err=True)
    typer.echo(f"{log.size():,} lines, {len(faults):,} faults")
    if faults:
        raise typer.Exit(1)


def lines(row: dict[str, Any]) -> Iterator[str]:
    """Yield a record as lines of a name and a fact."""
    for name, fact in _facts(row).items():
        yield f"{name:<10}{' '.join(str(fact).split()) or 'none'}"


def _facts(row: dict[str, Any]) -> dict[str, str]:
    likeliest = sorted(row["scores"] or [], key=lambda one: -one["score"])[:SHOWN]
    evidence = (
        f"{one['label']} at {one['start']}-{one['end']} ({', '.join(one['words'] or []) or 'whole passage'})"
        for one in row["evidence"] or []
    )
    tables = json.loads(row["training_tables"] or "{}").items()
    trained, promoted, gate = UNRECORDED, UNRECORDED, json.loads(row["gate"] or "null")
    figure = UNRECORDED if row["metric_value"] is None else f"{row['metric_value']:.3f}"
    if row["trained_at"]:
        on = ", ".join(f"{table} version {version}" for table, version in tables)
        trained = f"{row['trained_at']} on {row['rows_train']} rows of {on}; {row['metric']} {figure}"
    if row["promoted_at"]:
        promoted = f"{row['promoted_as']} by {row['promoted_by']}, {row['promoted_at']}: {row['promoted_why']}"
    return {
        "decision": row["decision_id"],
        "document": f"{row['kind']} {row['document_id']} of {row['tenant_id']}, {row['event_date']}",
        "answer": f"{row['task']}: {row['label'] or 'no answer, ' + row['abstention']}",
        "scores": ", ".join(f"{one['label']} {one['score']:g}" for one in likeliest),
        "topics": ", ".join(f"{one['path']} {one['score']:g}" for one in row["topics"] or []),
        "evidence": "; ".join(evidence),
        "model": f"{row['model_name']} version {row['model_version']}, digest {row['model_digest']}",
        "trained": trained,
        "promoted": promoted,
        "gate": f"{'passed' if gate['passed'] else 'not passed'}: {gate['why']}" if gate else UNRECORDED,
        "input": f"{row['input_table']} version {row['input_version']}, content {row['content_hash']}",
        "transform": f"{row['transform_id']} on {row['instruction_set'] or 'an unrecorded instruction set'}",
        "run": f"{row['run_id']}, by {row['served_by']} as {row['traffic_arm']}, {row['decided_at']}",
    }
