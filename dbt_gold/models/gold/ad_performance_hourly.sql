-- An event is judged by what its own organisation would have been given when it happened, the newest signals of the page
-- that it had by then; else by the newest that anyone had by then; and where nobody had any, by the first that came
-- later. `signals_source` says which.
with happened as (
    select *
    from {{ source('silver', 'ad_events') }}
    where {{ these_days() }}
),

fetched as (
    select *
    from {{ source('silver', 'page_signals') }}
    where document_id in (select document_id from happened)
),

own as (
    select *
    from fetched
    qualify row_number() over (partition by tenant_id, document_id, fetched_at order by url desc, content_hash) = 1
),

anyones as (
    select *
    from fetched
    qualify row_number() over (partition by document_id, fetched_at order by tenant_id, url desc, content_hash) = 1
),

events as (
    select
        date_trunc('hour', event_time) as hour,
        campaign_id,
        {{ known('event.site') }} as site,
        {% for column in ['iab_category_name', 'sentiment', 'threat', 'threat_risk', 'risk'] -%}
        {{ known("case when own.document_id is not null then own." ~ column
            ~ " when anyones.document_id is not null then anyones." ~ column ~ " else later." ~ column ~ " end") }}
            as {{ column }},
        {% endfor -%}
        case
            when own.document_id is not null then 'own'
            when anyones.document_id is not null then 'anyone'
            when later.document_id is not null then 'later'
            else 'unknown'
        end as signals_source,
        event.tenant_id,
        event.event_date,
        event_type,
        cost_usd,
        revenue_usd
    from happened as event
    asof left join own
        on event.tenant_id = own.tenant_id
        and event.document_id = own.document_id
        and event.event_time >= own.fetched_at
    asof left join anyones
        on event.document_id = anyones.document_id
        and event.event_time >= anyones.fetched_at
    asof left join anyones as later
        on event.document_id = later.document_id
        and event.event_time < later.fetched_at
)

select
    hour,
    campaign_id,
    site,
    iab_category_name,
    sentiment,
    threat,
    threat_risk,
    risk,
    signals_source,
    tenant_id,
    event_date,
    count(*) filter (event_type = 'impression') as impressions,
    count(*) filter (event_type = 'viewable') as viewable,
    count(*) filter (event_type = 'click') as clicks,
    count(*) filter (event_type = 'conversion') as conversions,
    {{ total('cost_usd') }} as cost_usd,
    {{ total('revenue_usd') }} as revenue_usd,
    {{ ratio('viewable', 'impressions') }} as viewability,
    {{ ratio('clicks', 'impressions') }} as ctr,
    {{ ratio('conversions', 'clicks') }} as conversion_rate,
    {{ ratio('1000 * sum(cost_usd)', 'impressions') }} as cpm_usd
from events
group by all
