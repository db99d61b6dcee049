select
    date_trunc('hour', synced_at) as hour,
    partner,
    tenant_id,
    event_date,
    count(*) as attempts,
    count(*) filter (status = 'matched') as matched,
    count(*) filter (status = 'unmatched') as unmatched,
    count(*) filter (status = 'error') as errors,
    {{ ratio('matched', 'attempts') }} as match_rate,
    {{ share('consent') }} as consent_share
from {{ source('silver', 'user_sync') }}
where {{ in_run_days() }}
group by all
