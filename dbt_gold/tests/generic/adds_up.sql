{# The sum of the parts is the whole. #}
{% test adds_up(model, whole, parts) %}
    select {{ whole }}, {{ parts | join(', ') }}
    from {{ model }}
    where {{ whole }} is distinct from {{ parts | join(' + ') }}
{% endtest %}
