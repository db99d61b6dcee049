"""A query in a process with limits, killed at its deadline."""

import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass

import polars as pl

from governance.access import AccessDeniedError, role
from resources.lakehouse.tables import Lakehouse
from resources.query.statement import QueryError, tables_of

# What the process is given of the environment: no secret, and no setting.
ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "PYTHONPATH", "TMPDIR")
# An answer that is an error starts so; one of rows does not.
ERROR = b"{"


@dataclass(frozen=True)
class Limits:
    """What one query may take.

    Attributes:
        seconds: until it is killed.
        cpu_seconds: of all its threads.
        memory_bytes: that DuckDB may hold.
        rows: of its answer.
    """

    seconds: float = 60.0
    cpu_seconds: int = 120
    memory_bytes: int = 2 << 30
    rows: int = 1_000_000


def query(
    lakehouse: Lakehouse, sql: str, *, as_role: str, tenant: str | None, limits: Limits = Limits()
) -> pl.DataFrame:
    """Run one SELECT over the tables that a role may read, named ``layer.table``.

    Args:
        lakehouse: where the tables are.
        sql: the query in DuckDB's SQL, with the functions of ``governance/sql_functions.yaml``.
        as_role: name of the role.
        tenant: tenant whose rows are read; None for all, if the role may read all.
        limits: what it may take.

    Raises:
        AccessDeniedError: unknown role, no tenant, or a table that the role may not read.
        QueryError: the query is wrong, is not allowed, or takes more than its limits.
    """
    role(as_role, tenant)
    tables_of(sql)  # a query that is refused needs no process
    request = {"uri": lakehouse.uri, "storage": lakehouse.storage, "sql": sql, "role": as_role, "tenant": tenant}
    environment = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "resources.query.child"],
            input=json.dumps(request | asdict(limits)).encode(),
            capture_output=True,
            check=False,
            env=environment | {"PYTHONPATH": os.pathsep.join(sys.path)},
            timeout=limits.seconds,
        )
    except subprocess.TimeoutExpired:
        raise QueryError(f"the query took over {limits.seconds:g} seconds and was stopped") from None
    if done.stdout.startswith(ERROR):
        answer = json.loads(done.stdout)
        raised = AccessDeniedError if answer["error"] == AccessDeniedError.__name__ else QueryError
        raise raised(answer["message"])
    if done.returncode or not done.stdout:
        raise QueryError("the query took more memory or processor time than it may, and was stopped")
    return pl.read_ipc_stream(done.stdout)
