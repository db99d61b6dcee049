{# Figures are rounded to six digits: digits beyond depend on the order of summation. #}

{# Ratio of two numbers; null where the second is zero. #}
{% macro ratio(numerator, denominator) -%} round({{ numerator }} / nullif({{ denominator }}, 0), 6) {%- endmacro %}

{# Share of the rows for which a condition holds, among those for which it is not null. #}
{% macro share(condition) -%} round(avg(({{ condition }})::integer), 6) {%- endmacro %}

{% macro mean(value) -%} round(avg({{ value }}), 6) {%- endmacro %}

{% macro median(value) -%} round(median({{ value }}), 6) {%- endmacro %}

{% macro total(value) -%} round(coalesce(sum({{ value }}), 0), 6) {%- endmacro %}
