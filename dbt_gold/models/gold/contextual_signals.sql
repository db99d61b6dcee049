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

select * exclude (source, position, received_at) from latest
