"""`seamless stack`: the local servers."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

stack_app = typer.Typer(
    help="The local stack: object store, broker, Postgres and key-value store, on loopback.", no_args_is_help=True
)
StackFolder = Annotated[Path, typer.Option("--folder", help="Where the stack keeps its data, logs and passwords.")]
STACK = Path(".stack")


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
