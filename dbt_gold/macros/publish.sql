{# Put a model's rows, which lie in DuckDB's memory, into its Delta table (resources/dbt.py). #}
{% macro publish() -%}
    {%- if execute -%}
        {%- set how = dict(config.get('meta'), first_day=first_day(), last_day=last_day()) -%}
        {%- do adapter.store_relation('delta', this, [], '', '', how) -%}
    {%- endif -%}
{%- endmacro %}
