{# The worse of two risk levels; that which is known, if one is not. #}
{% macro worse_risk(one, other) -%}
    {%- set levels = "['low', 'medium', 'high', 'floor']" -%}
    {{ levels }}[greatest(list_position({{ levels }}, {{ one }}), list_position({{ levels }}, {{ other }}))]
{%- endmacro %}
