"""The local stack: an object store, a broker, Postgres and a key-value store, as real servers on loopback.

The servers are wheels, so no container is needed. The platform reaches them by standard protocols only (S3, Kafka,
Postgres, Redis), so production uses its own servers. All files of a stack, also ports and passwords, are in one folder,
and only their owner can read them.
"""

import hashlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from devstack.services import HEALTH_ERRORS, SERVICES
from devstack.stack import Service, Stack, StackError, choose_ports, load_stack, locked, write

START_SECONDS, STOP_SECONDS, MAX_STARTS = 30, 10, 3


@dataclass(frozen=True)
class State:
    """The state of a server: its address, its process if it runs, and the fault if it does not answer."""

    name: str
    address: str
    pid: int | None
    fault: str | None

    @property
    def healthy(self) -> bool:
        """Whether it answers."""
        return self.fault is None


def up(folder: Path, services: Sequence[Service] = SERVICES) -> list[State]:
    """Start every server of the stack that does not run and answer already.

    Raises:
        StackError: a server's wheel is missing, or it does not answer within 30 seconds.
    """
    folder.mkdir(mode=0o711, parents=True, exist_ok=True)
    with locked(folder) as stack:
        for service in services:
            _up(service, stack)
    return status(folder, services)


def down(folder: Path, services: Sequence[Service] = SERVICES) -> None:
    """Stop every server of the stack in reverse order; their data stays."""
    if folder.is_dir():
        with locked(folder) as stack:
            for service in reversed(services):
                _down(service, stack)


def status(folder: Path, services: Sequence[Service] = SERVICES) -> list[State]:
    """Return the state of every server of the stack."""
    stack = load_stack(folder)
    processes = [(service, _process(service, stack)[0]) for service in services]
    return [
        State(service.name, stack.address(service.name), pid, "not running" if pid is None else _fault(service, stack))
        for service, pid in processes
    ]


def environment(folder: Path, services: Sequence[Service] = SERVICES) -> dict[str, str]:
    """Return the settings, with passwords, with which the platform runs on the stack.

    Raises:
        StackError: the stack was never started.
    """
    stack = load_stack(folder)
    if not all(service.name in stack.ports for service in services):
        raise StackError(f"there is no stack in {folder}: `seamless stack up` makes one")
    return {name: value for service in services for name, value in service.settings(stack).items()}


def _up(service: Service, stack: Stack) -> None:
    (stack.folder / service.name).mkdir(mode=0o700, exist_ok=True)
    pid, running_digest = _process(service, stack)
    if pid is None:
        choose_ports((service.name, *service.more_ports), stack)
    command, variables = service.command(stack), service.variables(stack)
    # A server with another command or environment than now, such as a moved object store's port, is restarted.
    digest = hashlib.sha256(json.dumps([command, variables]).encode()).hexdigest()
    if pid is None or running_digest != digest or _fault(service, stack):
        _down(service, stack)
        _start(service, stack, command, variables, digest)


def _start(service: Service, stack: Stack, command: list[str], variables: dict[str, str], digest: str) -> None:
    log, home = stack.folder / f"{service.name}.log", stack.folder / service.name
    log.touch(mode=0o600)
    deadline, starts, process, fault = time.monotonic() + START_SECONDS, 0, None, None
    while time.monotonic() < deadline:
        if process is None or process.poll() is not None:
            if starts == MAX_STARTS:
                raise StackError(f"{service.name} ends as soon as it is started: see {log}")
            starts += 1
            with log.open("ab") as output:
                process = subprocess.Popen(  # noqa: S603
                    command,
                    cwd=home,
                    env={"PATH": os.defpath, "HOME": str(home), **variables},
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    umask=0o077,
                )
            write(stack.folder / f"{service.name}.pid", f"{process.pid} {_birth(process.pid)} {digest}\n")
        time.sleep(0.1)
        fault = _fault(service, stack)
        if fault is None:
            return
    raise StackError(f"{service.name} does not answer within {START_SECONDS} seconds ({fault}): see {log}")


def _down(service: Service, stack: Stack) -> None:
    for stop_signal in (service.stop, signal.SIGKILL):
        pid, _ = _process(service, stack)
        if pid is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, stop_signal)
        deadline = time.monotonic() + STOP_SECONDS
        while _process(service, stack)[0] is not None and time.monotonic() < deadline:
            time.sleep(0.05)
    (stack.folder / f"{service.name}.pid").unlink(missing_ok=True)


def _process(service: Service, stack: Stack) -> tuple[int | None, str]:
    """Return a server's process, and the digest of its command and environment.

    The process is None if it is dead, or if its id belongs to another process now.
    """
    try:
        pid, birth, digest = (stack.folder / f"{service.name}.pid").read_text().split()
    except (FileNotFoundError, ValueError):
        return None, ""
    return (int(pid) if _birth(int(pid)) == birth else None), digest


def _birth(pid: int) -> str | None:
    """Return the start time of a process, in clock ticks since the system's start; None if it is dead."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    threads, birth = int(fields[16]), fields[18]
    # The main thread may have ended while others still hold the ports.
    return None if state in "ZX" and threads <= 1 else birth


def _fault(service: Service, stack: Stack) -> str | None:
    """Return the fault of a server that does not answer, else None."""
    try:
        service.check(service.settings(stack))
    except HEALTH_ERRORS as error:
        return f"{type(error).__name__}: {error}".split("\n")[0]
    return None
