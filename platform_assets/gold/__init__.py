"""The tables that are SQL: dbt models of ``dbt_gold``, as assets."""

import sys
from importlib import import_module

# dagster-dbt imports dbt-core where it finds it, which takes two seconds of every start; nothing here needs that
# until a table is built. So dbt-core is not found, a case that dagster-dbt provides for (its compat.py), while
# dagster-dbt is imported for the first time, here.
_known = sys.modules.get("dbt.version")
sys.modules["dbt.version"] = None  # ty: ignore[invalid-assignment]
import_module("dagster_dbt")
if _known is None:
    del sys.modules["dbt.version"]
else:
    sys.modules["dbt.version"] = _known
