-- A document is here once, with its newest fetch of all days. Those that had theirs on these days are looked at again too:
-- its row may be gone, or no longer be the newest.
with documents as (
    select tenant_id, document_id from {{ source('silver', 'page_signals') }} where {{ these_days() }}
    union
    select tenant_id, document_id from {{ source('stored', 'contextual_signals') }} where {{ these_days() }}
),

latest as (
    select *
    from {{ source('silver', 'page_signals') }}
    where (tenant_id, document_id) in (select (tenant_id, document_id) from documents)
    qualify row_number() over (
        partition by tenant_id, document_id order by fetched_at desc, url, content_hash
    ) = 1
)

select
    document_id,
    url,
    site,
    tenant_id,
    fetched_at,
    language,
    title,
    content_hash,
    iab_category,
    iab_category_name,
    iab_category_score,
    9 as cattax,
    if(iab_category is null, []::varchar[], [iab_category]) as cat,
    array_to_string(keywords, ',') as keywords,
    keywords as kwarray,
    threat,
    threat_name,
    threat_risk,
    threat_score,
    sentiment,
    emotion,
    toxicity,
    toxicity_score,
    hate,
    image_threat,
    image_threat_risk,
    coalesce(risk, 'unknown') as risk,
    coalesce(brand_safe, false) as brand_safe,
    event_date
from latest
