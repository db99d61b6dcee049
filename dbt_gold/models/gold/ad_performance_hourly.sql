-- depends_on: {{ ref('contextual_signals') }}
-- What a page is about is the same for everyone who shows something on it, whoever had it fetched.
with pages as (
    select distinct on (document_id) document_id, iab_category_name, threat_risk
    from {{ source('stored', 'contextual_signals') }}
    order by document_id, fetched_at desc, url desc, tenant_id desc
),

events as (
    select
        date_trunc('hour', event_time) as hour,
        campaign_id,
        {{ known('event.site') }} as site,
        {{ known('page.iab_category_name') }} as iab_category_name,
        {{ known('page.threat_risk') }} as threat_risk,
        event.tenant_id,
        event.event_date,
        event_type,
        cost_usd,
        revenue_usd
    from {{ source('silver', 'ad_events') }} as event
    left join pages as page using (document_id)
    where event.{{ these_days() }}
)

select
    hour,
    campaign_id,
    site,
    iab_category_name,
    threat_risk,
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
