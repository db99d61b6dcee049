{# A grouping value; `unknown` where it is null or empty. #}
{% macro or_unknown(value) -%} coalesce(nullif({{ value }}, ''), 'unknown') {%- endmacro %}
