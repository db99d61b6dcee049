with latest as (
    select *
    from {{ source('silver', 'page_signals') }}
    where {{ in_run_days() }}
    qualify row_number() over (
        partition by tenant_id, document_id, event_date order by fetched_at desc, url, content_hash
    ) = 1
)

select
    {{ or_unknown('site') }} as site,
    tenant_id,
    event_date,
    count(*) as pages,
    count(*) filter (risky) as risky_pages,
    {{ ratio('risky_pages', 'pages') }} as risky_share,
    count(*) filter (risk = 'none') as none_pages,
    count(*) filter (risk = 'low') as low_pages,
    count(*) filter (risk = 'medium') as medium_pages,
    count(*) filter (risk = 'high') as high_pages,
    count(*) filter (risk = 'floor') as floor_pages,
    count(*) filter (risk = 'unknown') as unrated_pages,
    mode(threat order by threat) filter (threat <> 'none') as top_threat,
    {{ share("sentiment = 'positive'") }} as positive_share,
    {{ share("sentiment = 'negative'") }} as negative_share,
    mode(iab_category_name order by iab_category_name) as top_topic
from latest
group by all
