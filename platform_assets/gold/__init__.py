"""The tables that are SQL: dbt models of ``dbt_gold``, as assets."""
