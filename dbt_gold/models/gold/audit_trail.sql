select
    decision.*,
    version.training_tables,
    version.metric,
    version.metric_value,
    version.rows_train,
    version.trained_at,
    move.action as promoted_as,
    move.moved_by as promoted_by,
    move.moved_why as promoted_why,
    move.moved_at as promoted_at
from {{ source('silver', 'decisions') }} as decision
left join {{ source('operations', 'model_versions') }} as version using (model_name, model_version)
-- Of all that has made the version answer, the last before it decided.
asof left join {{ source('operations', 'promotions') }} as move
    on decision.model_name = move.model_name
    and decision.model_version = move.model_version
    and decision.decided_at >= move.moved_at
where {{ these_days() }}
