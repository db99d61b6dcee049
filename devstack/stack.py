"""A local stack: its folder, its ports and passwords, and what a server of it is."""

import fcntl
import json
import secrets
import signal
import socket
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HOST = "127.0.0.1"
SECRETS = ("s3_key", "s3_secret", "postgres", "key_value")


class StackError(RuntimeError):
    """The local stack cannot start, or does not exist. The message is one line with the server and its log."""


@dataclass(frozen=True)
class Stack:
    """One stack: its folder, its ports and its passwords."""

    folder: Path
    ports: dict[str, int]
    secrets: dict[str, str]

    def address(self, port: str) -> str:
        """Return the address of a named port."""
        return f"{HOST}:{self.ports[port]}" if port in self.ports else "no address yet"


@dataclass(frozen=True)
class Service:
    """One server. It works in the folder ``<stack>/<name>``.

    Attributes:
        name: its name, also of the port that clients use.
        command: returns its command line.
        settings: returns the settings with which the platform uses it.
        check: health check, given the settings; raises one of ``services.HEALTH_ERRORS``.
        variables: returns its environment variables.
        more_ports: names of its other ports.
        stop: signal that stops it.
    """

    name: str
    command: Callable[[Stack], list[str]]
    settings: Callable[[Stack], dict[str, str]]
    check: Callable[[Mapping[str, str]], Any]
    variables: Callable[[Stack], dict[str, str]] = lambda _: {}
    more_ports: tuple[str, ...] = ()
    stop: signal.Signals = signal.SIGTERM


def write(file: Path, text: str) -> Path:
    """Write a file atomically, readable only by its owner."""
    draft = file.with_name(f"{file.name}.new")
    draft.touch(mode=0o600)
    draft.write_text(text)
    return draft.replace(file)


@contextmanager
def locked(folder: Path) -> Generator[Stack]:
    """Yield the stack of a folder, while no other command starts or stops its servers."""
    file = folder / "lock"
    file.touch(mode=0o600)
    with file.open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield load_stack(folder)


def load_stack(folder: Path) -> Stack:
    """Return the stack of a folder, with new passwords where it has none."""
    file = folder / "stack.json"
    stored = json.loads(file.read_text()) if file.exists() else {"ports": {}, "secrets": {}}
    passwords = {name: secrets.token_hex(20) for name in SECRETS} | stored["secrets"]
    return Stack(folder.resolve(), stored["ports"], passwords)


def choose_ports(names: tuple[str, ...], stack: Stack) -> None:
    """Choose a number for each port that has none, or whose number another program uses."""
    for name in names:
        while name not in stack.ports or not _is_free(stack.ports[name]):
            # These numbers, and the second ports above them, are below the system's ports of outgoing connections.
            number = 10_000 + secrets.randbelow(10_000)
            if number not in stack.ports.values():
                stack.ports[name] = number
    write(stack.folder / "stack.json", json.dumps({"ports": stack.ports, "secrets": stack.secrets}, indent=2))


def _is_free(port: int) -> bool:
    """Return whether a port is free, and the one 10,000 above it, which SeaweedFS uses for gRPC."""
    for number in (port, port + 10_000):
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind((HOST, number))
            except OSError:
                return False
    return True
