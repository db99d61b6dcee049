"""The command line `seamless`."""

import fnmatch
import json
import shlex
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

import polars as pl
import typer

from resources.redaction import redacted
from resources.settings import Settings, SettingsError, configure, settings
from serving.cli.audit import audit_app
from serving.cli.models import models_app
from serving.cli.serve import serve_app
from serving.cli.transform import transform_app

app = typer.Typer(
    name="seamless",
    help="From raw pages, messages and ad events to signals, reports and models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(audit_app, name="audit")
app.add_typer(models_app, name="models")
app.add_typer(serve_app, name="serve")
app.add_typer(transform_app, name="transform")
stack_app = typer.Typer(
    help="The local stack: object store, broker, Postgres and key-value store, on loopback.", no_args_is_help=True
)
app.add_typer(stack_app, name="stack")
SubjectId = Annotated[str, typer.Option("--subject", help="Id of the person, in any column of the class subject.")]
SubjectTenant = Annotated[str | None, typer.Option("--tenant", help="Tenant whose rows are meant; all without.")]
StackFolder = Annotated[Path, typer.Option("--folder", help="Where the stack keeps its data, logs and passwords.")]
STACK = Path(".stack")

SQL_EXAMPLE = "SELECT site, risky_share FROM gold.site_brand_safety ORDER BY risky_share DESC LIMIT 5"


@app.command()
def run(
    landing: Annotated[
        str | None,
        typer.Option(
            "--input",
            help="Folder with landed files or corpora, or s3://bucket/prefix, instead of the configured one.",
        ),
    ] = None,
) -> None:
    """Bring every table, model and report up to date with what has landed."""
    if landing is not None:
        if not landing.startswith("s3://") and not Path(landing).is_dir():
            raise typer.BadParameter(f"{landing} is not a folder", param_hint="--input")
        configure(landing=landing if landing.startswith("s3://") else Path(landing).resolve())
    _check_landing(settings())
    from serving.cli.summary import show_run

    show_run()


@app.command()
def sql(
    query: Annotated[str, typer.Argument(help=f'One SELECT over layer.table, such as "{SQL_EXAMPLE}".')],
    as_role: Annotated[str, typer.Option("--as", help="Role that reads (governance/access.yaml).")] = "engineer",
    tenant: Annotated[str | None, typer.Option(help="Tenant whose rows are read.")] = None,
    output: Annotated[
        Literal["table", "csv", "json", "jsonl"],
        typer.Option("--format", help="How to print the rows; json is one array, jsonl a line a row."),
    ] = "table",
) -> None:
    """Query the tables as a role sees them."""
    from resources.lakehouse.tables import lakehouse
    from resources.query.sandbox import query as run_query

    rows = run_query(lakehouse(settings()), query, as_role=as_role, tenant=tenant)
    if output == "csv":
        nested = [name for name, kind in rows.schema.items() if kind.is_nested()]
        flat = rows.with_columns(pl.col(name).map_elements(_json, return_dtype=pl.String) for name in nested)
        sys.stdout.write(flat.write_csv())
    elif output != "table":
        _print_json(rows.iter_rows(named=True), lines=output == "jsonl")
    else:
        with pl.Config(
            tbl_rows=200, tbl_cols=50, fmt_str_lengths=60, tbl_hide_dataframe_shape=True, tbl_width_chars=200
        ):
            typer.echo(rows)
        typer.echo(f"{rows.height} rows")


@app.command()
def predict(
    task: Annotated[str, typer.Option(help="Task to answer, such as sentiment.")],
    file: Annotated[Path, typer.Option("--input", help="File with one text a line; - reads standard input.")],
    output: Annotated[
        Literal["json", "jsonl", "labels"],
        typer.Option(
            "--format",
            help="Label and scores, as one JSON array or a line each; or labels alone, the likeliest where not sure.",
        ),
    ] = "jsonl",
) -> None:
    """Answer a task for each line of a file: one answer a line, in order."""
    from serving.cli.predict import likeliest, predictions

    answers = predictions(task, file)
    if output == "labels":
        sys.stdout.writelines(f"{likeliest(answer) or 'unknown'}\n" for answer in answers)
    else:
        _print_json(answers, lines=output == "jsonl")


@app.command()
def explain(name: Annotated[str, typer.Argument(help="URL of a page, or id of a message.")]) -> None:
    """Show why a document was judged as it was, and which words would have to go for it to be harmless."""
    from serving.cli.explain import explain as lines

    for line in lines(name):
        typer.echo(line)


@app.command()
def erase(subject: SubjectId, tenant: SubjectTenant = None) -> None:
    """Erase a person from every table and file, keep the person's records from coming back, and report."""
    from governance.erasure import Subject
    from serving.cli.erase import erase as erase_subject
    from serving.cli.summary import quiet

    with quiet():
        report = erase_subject(settings(), Subject(subject, tenant))
    typer.echo(json.dumps(report, indent=2))


@app.command()
def export(
    subject: SubjectId,
    output: Annotated[Path, typer.Option(help="Folder of the files, one a table.")],
    tenant: SubjectTenant = None,
) -> None:
    """Write all rows that hold a person, as the role privacy sees them, to files of JSON lines."""
    from governance.erasure import Subject
    from serving.cli.export import export as export_subject

    for table, rows in export_subject(settings(), Subject(subject, tenant), output).items():
        typer.echo(f"{rows:>8,}  {table}")


@app.command()
def stream(
    drain: Annotated[bool, typer.Option("--drain", help="End once every topic was read to its end.")] = False,
) -> None:
    """Read topics into tables and publish signals, until interrupted."""
    from serving.stream.worker import stream as run_stream

    run_stream(settings(), until_drained=drain, log=lambda line: typer.echo(line, err=True))


@stack_app.command("up")
def stack_up(folder: StackFolder = STACK) -> None:
    """Start the servers that do not run yet, on the data of earlier runs."""
    from devstack.servers import up

    up(folder)
    stack_status(folder)
    typer.echo('to use it in this shell: eval "$(seamless stack env)"')


@stack_app.command("down")
def stack_down(folder: StackFolder = STACK) -> None:
    """Stop the servers; their data stays."""
    from devstack.servers import down

    down(folder)


@stack_app.command("status")
def stack_status(folder: StackFolder = STACK) -> None:
    """Show each server's address, process and whether it answers; exit code 1 unless all answer."""
    from devstack.servers import status

    servers = status(folder)
    for server in servers:
        state = "up" if server.healthy else f"down: {server.fault}"
        typer.echo(f"{server.name:<14}{server.address:<18}{server.pid or '-':<10}{state}")
    if not all(server.healthy for server in servers):
        raise typer.Exit(1)


@stack_app.command("env")
def stack_env(folder: StackFolder = STACK) -> None:
    """Print the settings, with passwords, with which the platform runs on the stack."""
    from devstack.servers import environment

    for name, value in environment(folder).items():
        typer.echo(f"export {name}={shlex.quote(value)}")


def _check_landing(settings: Settings) -> None:
    from resources.landing.bucket import Bucket, NoBucketError
    from resources.landing.corpora import CORPORA

    if isinstance(settings.landing, Path):
        if not settings.landing.is_dir():
            raise SettingsError(f"bad settings: LANDING: there is no folder {settings.landing}")
        return
    try:
        folders = Bucket(settings.landing, settings).folders()
    except NoBucketError as error:
        raise SettingsError(f"bad settings: LANDING: {error}") from None
    corpora = {name for corpus in CORPORA for name in fnmatch.filter(folders, corpus.files.split("/")[0])}
    if corpora:
        raise SettingsError(
            f"bad settings: LANDING: corpora are read from a folder only, and {settings.landing} holds"
            f" {', '.join(sorted(corpora))}: copy them to a folder"
        )


def _json(value: Any) -> str:
    if isinstance(value, pl.Series):
        value = value.to_list()
    return json.dumps(value, ensure_ascii=False, default=str)


def main() -> None:
    """Run the command line: exit code 0, 1 (failed) or 2 (bad usage); an error is one line on standard error."""
    try:
        configure()
        code = app(standalone_mode=False)
    except SettingsError as error:
        _fail(str(error), 2)
    except typer.BadParameter as error:
        _fail(" ".join(error.format_message().split()), 2)
    except (typer.Abort, KeyboardInterrupt):
        _fail("interrupted", 130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
    except typer.TyperException as error:
        format_message = getattr(error, "format_message", None)
        message = format_message() if format_message else str(error)
        if not message:  # a command group without a command has printed its help
            sys.exit(2)
        _fail(f"{message} Try `seamless --help`.", 2)
    except Exception as error:  # noqa: BLE001 - the last resort: one line for the user, the trace in a file
        _fail(_one_line(error), 1)
    sys.exit(code or 0)


def _print_json(rows: Iterable[Any], *, lines: bool) -> None:
    """Stream rows to standard output as one JSON array, or one a line."""
    separator = "" if lines else "[\n"
    for row in rows:
        sys.stdout.write(f"{separator}{_json(row)}")
        separator = "\n" if lines else ",\n"
    if lines:
        sys.stdout.write("\n" if separator else "")
    else:
        sys.stdout.write("[]\n" if separator == "[\n" else "\n]\n")


def _one_line(error: Exception) -> str:
    message = redacted(" ".join(str(error).split()))[:2_000] or type(error).__name__
    if type(error).__module__.split(".")[0] in OWN_PACKAGES or isinstance(error, OSError):
        return message
    trace = Path(".cache/last_error.txt")
    trace.parent.mkdir(exist_ok=True)
    trace.write_text(redacted(traceback.format_exc()), encoding="utf-8")
    return f"unexpected {type(error).__name__}: {message} (trace in {trace})"


# The messages of errors that these define name the remedy, and need no trace.
OWN_PACKAGES = ("signals", "governance", "resources", "platform_assets", "sensors", "serving", "devstack")


def _fail(message: str, code: int) -> None:
    sys.stderr.write(f"seamless: {redacted(message)}\n")
    sys.exit(code)
