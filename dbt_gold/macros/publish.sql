{# Put the model's rows into its Delta table. #}
{% macro publish() -%}
    {%- if execute -%}
        {%- set how = dict(config.get('meta', {}), first_day=first_day(), last_day=last_day()) -%}
        {%- do adapter.store_relation('delta', this, [], '', '', how) -%}
    {%- endif -%}
{%- endmacro %}
