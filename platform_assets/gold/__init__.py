"""The tables that are SQL: dbt models of ``dbt_gold``, as assets."""

import sys
from importlib import import_module

# dagster-dbt imports dbt-core where it is installed, which adds two seconds to every start; it is needed only when a
# table is built. So dbt-core is hidden, a case that dagster-dbt provides for (its compat.py), during the first import.
_dbt_version = sys.modules.get("dbt.version")
sys.modules["dbt.version"] = None  # ty: ignore[invalid-assignment]
import_module("dagster_dbt")
if _dbt_version is None:
    del sys.modules["dbt.version"]
else:
    sys.modules["dbt.version"] = _dbt_version
