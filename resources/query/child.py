"""A query in a process of its own, which has limits and ends with it: ``python -m resources.query.child``.

The request comes as one JSON object. The answer is Arrow's stream format, or a JSON object that names the error.
"""

import json
import resource
import sys

from governance.access import AccessDeniedError
from resources.lakehouse.tables import Lakehouse
from resources.query.select import select, views_of
from resources.query.statement import QueryError

# Addresses that the process may map beside what DuckDB may hold: libraries, and what it reads of the tables.
OVERHEAD = 6 << 30


def main() -> None:
    """Answer the request on standard input."""
    request = json.load(sys.stdin)
    memory, cpu = request["memory_bytes"], request["cpu_seconds"]
    for limit, most in (
        (resource.RLIMIT_AS, memory + OVERHEAD),
        (resource.RLIMIT_CPU, cpu),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(limit, (most, most))
    lakehouse, sql = Lakehouse(request["uri"], request["storage"]), request["sql"]
    try:
        views = views_of(lakehouse, sql, as_role=request["role"], tenant=request["tenant"])
        rows = select(lakehouse, sql, views, max_rows=request["rows"], memory_bytes=memory)
    except (QueryError, AccessDeniedError, MemoryError) as error:
        answer = {"error": type(error).__name__, "message": str(error)}
        sys.stdout.buffer.write(json.dumps(answer).encode())
        return
    rows.write_ipc_stream(sys.stdout.buffer)


if __name__ == "__main__":
    main()
