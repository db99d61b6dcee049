{#
    First and last day of the run. They come through the environment and are read only when a model runs: for each new
    value of a `var`, dbt would parse the whole project again, which takes seconds.
#}
{% macro first_day() -%} {% if execute %}{{ env_var('GOLD_FIRST_DAY') }}{% endif %} {%- endmacro %}
{% macro last_day() -%} {% if execute %}{{ env_var('GOLD_LAST_DAY') }}{% endif %} {%- endmacro %}

{# Whether a row is of one of the run's days. #}
{% macro in_run_days() -%}
    event_date between date '{{ first_day() }}' and date '{{ last_day() }}'
{%- endmacro %}
