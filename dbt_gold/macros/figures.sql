{# Figures are rounded to six digits: what lies beyond depends on the order in which numbers were added up. #}

{# A part of a whole; null where there is no whole. #}
{% macro ratio(part, whole) -%} round({{ part }} / nullif({{ whole }}, 0), 6) {%- endmacro %}

{# The part of the rows for which a condition holds, of those for which it is known. #}
{% macro share(condition) -%} round(avg(({{ condition }})::integer), 6) {%- endmacro %}

{% macro mean(value) -%} round(avg({{ value }}), 6) {%- endmacro %}

{% macro median(value) -%} round(median({{ value }}), 6) {%- endmacro %}

{% macro total(value) -%} round(coalesce(sum({{ value }}), 0), 6) {%- endmacro %}
