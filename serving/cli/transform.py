"""`seamless transform`: whether models and vectors carry over an upgrade."""

from datetime import UTC, datetime

import typer
from rich.console import Console

from resources.settings import settings
from serving.cli.progress import shown

transform_app = typer.Typer(help="Compare the transformation with earlier ones.", no_args_is_help=True)


class DiffersError(RuntimeError):
    """A transformation gives something else than an earlier one."""


@transform_app.callback()
def group() -> None:
    """Compare the transformation with earlier ones."""


@transform_app.command()
def compare() -> None:
    """Compare what models were trained under with what runs, on probes and own documents; what is the same is kept."""
    from platform_assets.operations import upgrades
    from resources.encoder import encoder
    from resources.lakehouse.tables import lakehouse
    from resources.registry.models import registry
    from resources.transform_comparisons import record

    tables, models, running = lakehouse(settings()), registry(settings()), encoder(settings())
    earlier, now = upgrades.trained_under(models, running), running.transform_id
    if not earlier:
        typer.echo(f"every champion was trained under {now}, which is running: there is nothing to compare")
    refused = []
    for before, champions in earlier.items():
        with shown(Console(stderr=True)) as stage:
            stage(f"compare {before} with {now}", 0, 0)
            found = upgrades.compared(tables, models, running, before, champions)
        record(tables, (before, now), found.verdict, datetime.now(UTC))
        if not found.verdict.passed:
            refused.append(f"{before} and {now} differ, and {len(champions)} models retire: {found.verdict.why}")
            continue
        if found.encoder_id == running.encoder_id:
            vectors = "stored vectors stay"
        elif found.same_vectors:
            carried = upgrades.carry_vectors(tables, found.encoder_id, running.encoder_id)
            vectors = f"{carried:,} stored vectors carry over"
        else:
            vectors = "vectors differ in their last digits, and are encoded again"
        same = f"{before} and {now} give the same ({found.verdict.why})"
        typer.echo(f"{same}: {len(champions)} models carry over, {vectors}")
    if refused:
        raise DiffersError("; ".join(refused))
