{# What a row is grouped by, also where its source does not say. #}
{% macro known(name) -%} coalesce(nullif({{ name }}, ''), 'unknown') {%- endmacro %}
