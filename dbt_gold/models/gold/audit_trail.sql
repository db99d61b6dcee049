select
    decision.*,
    version.training_tables,
    version.metric,
    version.metric_value,
    version.rows_train,
    version.trained_at,
    version.promoted_by,
    version.promoted_why,
    version.promoted_at
from {{ source('silver', 'decisions') }} as decision
left join {{ source('operations', 'model_versions') }} as version using (model_name, model_version)
where {{ these_days() }}
