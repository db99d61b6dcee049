"""The command line `seamless`."""

import fnmatch
import json
import sys
import traceback
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import polars as pl
import typer

from governance.access import AccessDeniedError
from resources.redaction import redacted
from resources.run_record import run_record
from resources.settings import Settings, SettingsError, configure, settings
from serving.cli.asking import AsRole, OfTenant, asking
from serving.cli.audit import audit_app
from serving.cli.models import models_app
from serving.cli.serve import serve_app
from serving.cli.stack import stack_app
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
app.add_typer(stack_app, name="stack")
SubjectId = Annotated[str, typer.Option("--subject", help="Id of the person, in any column of the class subject.")]
SubjectTenant = Annotated[str | None, typer.Option("--tenant", help="Tenant whose rows are meant; all without.")]
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
    as_role: AsRole = None,
    tenant: OfTenant = None,
    output: Annotated[
        Literal["table", "csv", "json", "jsonl"],
        typer.Option("--format", help="How to print the rows; json is one array, jsonl a line a row."),
    ] = "table",
) -> None:
    """Query the tables as a role sees them."""
    from resources.lakehouse.tables import lakehouse
    from resources.query.sandbox import query as run_query
    from resources.query.statement import shape_of, tables_of

    with asking("sql", query, as_role, tenant, query=shape_of(query)) as (asks, answer):
        answer.tables = tables_of(query)
        rows = run_query(lakehouse(settings()), query, as_role=asks.role, tenant=asks.tenant)
        answer.rows = rows.height
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
def explain(
    name: Annotated[str, typer.Argument(help="URL of a page, or id of a message.")],
    as_role: AsRole = None,
    tenant: OfTenant = None,
) -> None:
    """Show why a document was judged as it was, and which words would have to go for it to be harmless."""
    from serving.cli.explain import explain as lines
    from serving.cli.explain import read_document

    with asking("explain", name, as_role, tenant) as (asks, answer):
        document = read_document(settings(), name, asks)
        answer.tables, answer.rows = document.tables, 1
    for line in lines(document):
        typer.echo(line)


@app.command()
def erase(subject: SubjectId, tenant: SubjectTenant = None) -> None:
    """Erase a person from every table and file, keep the person's records from coming back, and report."""
    from governance.erasure import Subject
    from serving.cli.erase import erase as erase_subject
    from serving.cli.summary import quiet

    with asking("erase", subject, tenant=tenant) as (asks, answer), quiet():
        asks.require("erase")
        report = erase_subject(settings(), Subject(subject, asks.tenant))
        answer.tables = list(report["rows_removed"])
    typer.echo(json.dumps(report, indent=2))


@app.command()
def export(
    subject: SubjectId,
    output: Annotated[Path, typer.Option(help="Folder of the files, one a table.")],
    tenant: SubjectTenant = None,
) -> None:
    """Write all rows that hold a person, as the role privacy sees them, to files of JSON lines."""
    from governance.erasure import Subject
    from serving.cli.export import rows_to_export, write

    with asking("export", subject, tenant=tenant) as (asks, answer):
        asks.require("export")
        found = rows_to_export(settings(), Subject(subject, asks.tenant))
        answer.tables, answer.rows = list(found), sum(rows.height for rows in found.values())
    write(found, output)
    for table, rows in found.items():
        typer.echo(f"{rows.height:>8,}  {table}")


@app.command()
def policies(
    output: Annotated[Literal["postgres", "unity"], typer.Option("--format", help="Whose statements.")] = "postgres",
) -> None:
    """Print who may read what as statements for another database that has the tables, a schema a layer."""
    from governance.policies import postgres, unity

    for statement in postgres() if output == "postgres" else unity():
        typer.echo(f"{statement};")


@app.command()
def privacy() -> None:
    """Carry out what persons have asked of the API: erase them, or export what is kept about them."""
    from serving.cli.privacy import carry_out, tables_of
    from serving.cli.summary import quiet

    with asking("privacy", "") as (asks, answer):
        asks.require("erase")
        asks.require("export")
        if asks.tenant is not None:
            raise AccessDeniedError("requests of all tenants are carried out: a key of one may not")
        with quiet():
            done = list(carry_out(settings()))
        answer.tables = sorted({table for one in done for table in tables_of(one)})
    for one in done:
        typer.echo(f"{one.id}  {one.kind}  {one.tenant}")
    typer.echo(f"{len(done):,} requests carried out")


@app.command()
def backup(target: Annotated[Path, typer.Argument(metavar="DIR", help="Folder that is made.")]) -> None:
    """Copy lake, registry, signal store and run record to a folder; what runs may go on."""
    from resources.backup import Places
    from resources.backup import backup as copy

    _show_parts(copy(Places.of(settings(), run_record()), target, datetime.now(UTC)))


@app.command()
def restore(source: Annotated[Path, typer.Argument(metavar="DIR", help="Folder that `seamless backup` made.")]) -> None:
    """Put a backup where the settings say that lake, registry, signal store and run record lie."""
    from resources.backup import Places
    from resources.backup import restore as put_back

    _show_parts(put_back(source, Places.of(settings(), run_record())))


@app.command()
def stream(
    drain: Annotated[bool, typer.Option("--drain", help="End once every topic was read to its end.")] = False,
) -> None:
    """Read topics into tables and publish signals, until interrupted."""
    from serving.stream.worker import stream as run_stream

    run_stream(settings(), until_drained=drain, log=lambda line: typer.echo(line, err=True))


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


def _show_parts(sizes: Mapping[str, int]) -> None:
    for part, size in sizes.items():
        typer.echo(f"{size:>16,} bytes  {part}")


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
