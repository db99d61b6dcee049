{# Numbers that are not null are within limits. #}
{% test within(model, columns, least=0, most=none) %}
    select {{ columns | join(', ') }}
    from {{ model }}
    where {% for column in columns %}
        {{- "or " if not loop.first }}{{ column }} < {{ least }}{% if most is not none %} or {{ column }} > {{ most }}{% endif %}
    {% endfor %}
{% endtest %}
