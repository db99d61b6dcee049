"""`seamless serve`: the signal API, and the keys of those who may call it."""

import os
import tempfile
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from resources.api_keys import SCOPES, ApiKeys, api_keys
from resources.settings import settings
from resources.signal_store.stores import signal_store

serve_app = typer.Typer(help="Serve the signal API, or say who may call it.", invoke_without_command=True)
keys_app = typer.Typer(help="Make, list, replace and revoke API keys.", no_args_is_help=True)
serve_app.add_typer(keys_app, name="keys")
# Seconds that requests in flight have at a stop.
DRAIN_SECONDS = 30
KeyId = Annotated[str, typer.Argument(metavar="ID", help="Id of the key, as `list` shows it.")]


@serve_app.callback()
def serve(
    context: typer.Context,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65_535, help="Port to listen on.")] = 8000,
    workers: Annotated[int, typer.Option(min=1, max=256, help="Processes that answer.")] = 1,
) -> None:
    """Answer requests until interrupted; those in flight are finished first."""
    if context.invoked_subcommand is not None:
        return
    import uvicorn

    # What is wrong with either is said here, in one line.
    signal_store(settings()).close()
    _keys()
    with tempfile.TemporaryDirectory(prefix="seamless-metrics-") as figures:
        if workers > 1:
            # Each worker counts for itself, in files of which any of them makes the sum.
            os.environ["PROMETHEUS_MULTIPROC_DIR"] = figures
        uvicorn.run(
            "serving.api.app:create_app",
            factory=True,
            host=host,
            port=port,
            workers=workers,
            loop="uvloop",
            http="httptools",
            access_log=False,
            log_level="warning",
            server_header=False,
            timeout_graceful_shutdown=DRAIN_SECONDS,
        )


@keys_app.command("add")
def add_key(
    tenant: Annotated[str, typer.Option(help="Organisation whose rows the key reads.")],
    role: Annotated[str, typer.Option(help="Role that it reads as (governance/access.yaml).")] = "decisioning",
    scope: Annotated[
        list[str] | None, typer.Option(help=f"What it may be used for, of {', '.join(SCOPES)}; all if left out.")
    ] = None,
) -> None:
    """Make a key, and print it: it is kept nowhere, and cannot be printed again."""
    stray = {*(scope or ())} - {*SCOPES}
    if stray:
        raise typer.BadParameter(f"there is no scope {', '.join(sorted(stray))}; there are {', '.join(SCOPES)}")
    key, secret = _keys().add(tenant, role, tuple(one for one in SCOPES if scope is None or one in scope))
    _show(key.id, secret)


@keys_app.command("list")
def list_keys() -> None:
    """List the keys by their ids."""
    now = datetime.now(UTC)
    for key in _keys().all():
        until = "" if key.expires_at is None else f"{'expired' if key.expires_at <= now else 'until'} {key.expires_at}"
        typer.echo(f"{key.id:<10}{key.tenant:<20}{key.role:<14}{','.join(key.scopes):<42}{until}".rstrip())


@keys_app.command("rotate")
def rotate_key(
    key_id: KeyId,
    hours: Annotated[float, typer.Option(min=0, help="Hours for which the old key goes on to work.")] = 24.0,
) -> None:
    """Make a key like another, which goes on to work for a while; print the new one."""
    keys = _keys()
    old = keys.expire(key_id, datetime.now(UTC) + timedelta(hours=hours))
    key, secret = keys.add(old.tenant, old.role, old.scopes)
    _show(key.id, secret)


@keys_app.command("revoke")
def revoke_key(key_id: KeyId) -> None:
    """Refuse a key from now on."""
    _keys().revoke(key_id)


def _keys() -> ApiKeys:
    return api_keys(settings())


def _show(key_id: str, secret: str) -> None:
    typer.echo(secret)
    typer.echo(f"its id is {key_id}; keep it now, it cannot be shown again", err=True)
