{# Writes a model's rows, which are in DuckDB's memory, into its Delta table (resources/dbt.py). #}
{% macro publish() -%}
    {%- if execute -%}
        {%- set options = dict(config.get('meta'), first_day=first_day(), last_day=last_day()) -%}
        {%- do adapter.store_relation('delta', this, [], '', '', options) -%}
    {%- endif -%}
{%- endmacro %}
