{# Key columns are never null, and no two rows have the same key. #}
{% test unique_together(model, columns) %}
    select {{ columns | join(', ') }}, count(*) as rows_with_it
    from {{ model }}
    group by all
    having count(*) > 1 or {{ columns | join(' is null or ') }} is null
{% endtest %}
