"""The terminal output of `seamless run`: how far it is, and a summary at the end."""

import contextlib
import io
import logging
import os
import sys
import time
from collections.abc import Generator
from pathlib import Path

from rich.console import Console
from rich.table import Table

from resources.registry.models import registry
from resources.settings import settings
from serving.cli.progress import shown
from serving.cli.run import Report, run
from signals.tasks import TASKS

console = Console(highlight=False)
NEXT_COMMANDS = ('sql "SELECT * FROM gold.site_brand_safety LIMIT 5"', "models list")


def show_run() -> None:
    """Run the graph, show how far it is, and print the summary."""
    started = time.perf_counter()
    with shown(console) as stage, quiet():
        report = run(stage)
    show(report, time.perf_counter() - started)


def show(report: Report, seconds: float) -> None:
    """Print the tables and models that a run made, where the results are, and the next commands."""
    console.print(_tables(report) if report.steps else "Nothing has landed since: every table is up to date.")
    if any(step.asset.startswith("models/") for step in report.steps):
        console.print(_models(report))
    stages = "".join(f", {stage} {taken:.1f} s" for stage, taken in report.seconds.items())
    console.print(f"[bold]{seconds:.1f} s[/bold]{stages.replace(',', ':', 1)}", soft_wrap=True)
    for check in report.failed_checks:
        console.print(f"[yellow]check failed:[/yellow] {check}")
    for why in report.unanswered:
        console.print(f"[yellow]not answered:[/yellow] {why}")
    lake = settings().lakehouse_uri
    pages = ("risk_analysis", "business_insights", "platform_health", "model_monitoring")
    lines = (
        f"\nReports   {lake}/reports/{', '.join(f'{page}.html' for page in pages)}",
        f"Data docs {lake}/reports/data_docs/",
        "Next      make dev                    the graph in the Dagster UI, at http://127.0.0.1:3000",
        *(f"          {_program()} {command}" for command in NEXT_COMMANDS),
    )
    # Commands and paths are copied, so no line is broken.
    console.print("\n".join(lines), soft_wrap=True)


def _program() -> str:
    """Return this program's path as typed by a user who ran `make` and has no environment activated."""
    program = Path(sys.executable).with_name("seamless")
    return str(program.relative_to(Path.cwd())) if program.is_relative_to(Path.cwd()) else program.name


def _tables(report: Report) -> Table:
    table = Table(title="Tables", title_justify="left", box=None, header_style="bold")
    for name in ("table", "rows in", "out", "quarantined", "now in table", "seconds"):
        table.add_column(name, justify="left" if name == "table" else "right")
    for step in report.steps:
        if step.asset.startswith("models/"):
            continue
        metadata = step.metadata
        rows = metadata.get("dagster/row_count")
        rows_out = metadata.get("rows_out", metadata.get("rows_decided", metadata.get("rows_encoded", rows)))
        cells = (
            metadata.get("rows_in", ""),
            rows_out,
            metadata.get("rows_quarantined") or "",
            rows,
            f"{metadata.get('seconds', 0):.1f}",
        )
        table.add_row(step.asset, *(f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in cells))
    return table


def _models(report: Report) -> Table:
    """Return the versions that the run trained beside those that serve.

    They differ where the run promoted another encoder: its own heads serve then.
    """
    table = Table(title="\nModels", title_justify="left", box=None, header_style="bold")
    for name in ("task", "trained", "serves", "held-out metric", "seconds"):
        table.add_column(name, justify="left" if name in ("task", "held-out metric") else "right")
    versions = registry(settings()).versions_by_task()
    for step in report.steps:
        if step.asset.startswith("models/"):
            metadata, name = step.metadata, step.asset.removeprefix("models/")
            serving = next((version for version in versions.get(name, ()) if version.champion), None)
            metric, figure = TASKS[name].metric if name in TASKS else "", str(metadata.get("gate", ""))
            if serving and metric in serving.metrics:
                figure = f"{metric} {serving.metrics[metric]:.3f}"
            serves = str(serving.version) if serving else "-"
            trained, seconds = str(metadata.get("version", "-")), f"{metadata.get('seconds', 0):.1f}"
            table.add_row(name, trained, serves, figure, seconds)
    return table


@contextlib.contextmanager
def quiet() -> Generator[None]:
    """Keep the logs and progress bars of libraries off the terminal; errors come back as exceptions."""
    logging.disable(logging.WARNING)
    os.environ.setdefault("TQDM_DISABLE", "1")
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(logging.NOTSET)
