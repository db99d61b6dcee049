-- One row per document: its newest fetch of all days. Documents whose stored row is of the run's days are read again too,
-- because that fetch may be removed or no longer the newest.
with documents as (
    select tenant_id, document_id from {{ source('silver', 'page_signals') }} where {{ in_run_days() }}
    union
    select tenant_id, document_id from {{ source('stored', 'contextual_signals') }} where {{ in_run_days() }}
),

latest as (
    select *
    from {{ source('named', 'page_signals') }}
    where (tenant_id, document_id) in (select (tenant_id, document_id) from documents)
    qualify row_number() over (
        partition by tenant_id, document_id order by fetched_at desc, url, content_hash
    ) = 1
)

select * exclude (source, position, received_at) from latest
