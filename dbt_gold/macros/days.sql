{#
    The days that this run makes come through the environment: for each new value of a `var`, dbt would parse the whole
    project again, and so it would for a variable of the environment that it needs to parse a model.
#}
{% macro first_day() -%} {% if execute %}{{ env_var('GOLD_FIRST_DAY') }}{% endif %} {%- endmacro %}
{% macro last_day() -%} {% if execute %}{{ env_var('GOLD_LAST_DAY') }}{% endif %} {%- endmacro %}

{# Whether a row is of one of these days. #}
{% macro these_days() -%}
    event_date between date '{{ first_day() }}' and date '{{ last_day() }}'
{%- endmacro %}
