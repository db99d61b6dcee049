-- An event takes the page's newest signals of its own tenant as of the event, else the newest of any tenant as of the
-- event, else the first later ones. `signals_source` names which.
with events as (
    select *
    from {{ source('silver', 'ad_events') }}
    where {{ in_run_days() }}
),

signals as (
    select *
    from {{ source('named', 'page_signals') }}
    where document_id in (select document_id from events)
),

own_signals as (
    select *
    from signals
    qualify row_number() over (partition by tenant_id, document_id, fetched_at order by url desc, content_hash) = 1
),

shared_signals as (
    select *
    from signals
    qualify row_number() over (partition by document_id, fetched_at order by tenant_id, url desc, content_hash) = 1
),

attributed as (
    select
        date_trunc('hour', event_time) as hour,
        campaign_id,
        {{ or_unknown('event.site') }} as site,
        {% for column in ['iab_category_name', 'sentiment', 'threat', 'threat_risk', 'risk'] -%}
        {{ or_unknown("case when own.document_id is not null then own." ~ column
            ~ " when shared.document_id is not null then shared." ~ column ~ " else later." ~ column ~ " end") }}
            as {{ column }},
        {% endfor -%}
        case
            when own.document_id is not null then 'own'
            when shared.document_id is not null then 'anyone'
            when later.document_id is not null then 'later'
            else 'unknown'
        end as signals_source,
        event.tenant_id,
        event.event_date,
        event_type,
        cost_usd,
        revenue_usd
    from events as event
    asof left join own_signals as own
        on event.tenant_id = own.tenant_id
        and event.document_id = own.document_id
        and event.event_time >= own.fetched_at
    asof left join shared_signals as shared
        on event.document_id = shared.document_id
        and event.event_time >= shared.fetched_at
    asof left join shared_signals as later
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
from attributed
group by all
