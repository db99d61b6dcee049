select
    decision.*,
    version.training_tables,
    version.metric,
    version.metric_value,
    version.rows_train,
    version.trained_at,
    version.gate,
    promotion.action as promoted_as,
    promotion.moved_by as promoted_by,
    promotion.moved_why as promoted_why,
    promotion.moved_at as promoted_at
from {{ source('silver', 'decisions') }} as decision
left join {{ source('operations', 'model_versions') }} as version using (model_name, model_version)
-- The last event of the promotion log that put the version in service before it decided.
asof left join {{ source('operations', 'promotions') }} as promotion
    on decision.model_name = promotion.model_name
    and decision.model_version = promotion.model_version
    and decision.decided_at >= promotion.moved_at
where {{ in_run_days() }}
