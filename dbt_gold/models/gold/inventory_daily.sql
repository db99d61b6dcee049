select
    event_date,
    {{ or_unknown('placement_id') }} as placement_id,
    {{ or_unknown('site') }} as site,
    {{ or_unknown('format') }} as format,
    tenant_id,
    count(*) as snapshots,
    coalesce(sum(avails), 0)::bigint as avails,
    coalesce(sum(filled), 0)::bigint as filled,
    {{ ratio('sum(filled)', 'sum(avails)') }} as fill_rate,
    {% for authorisation in ['authorised', 'unauthorised', 'unknown'] -%}
    coalesce(sum(avails) filter (coalesce(authorisation, 'unknown') = '{{ authorisation }}'), 0)::bigint
        as {{ authorisation }}_avails,
    {% endfor -%}
    {{ ratio("coalesce(sum(avails) filter (authorisation = 'authorised'), 0)", 'sum(avails)') }} as authorised_share,
    {{ mean('floor_cpm_usd') }} as mean_floor_cpm_usd,
    max(floor_cpm_usd) as max_floor_cpm_usd
from {{ source('silver', 'inventory') }}
where {{ in_run_days() }}
group by all
