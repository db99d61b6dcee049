with auctions as (
    select
        date_trunc('hour', auction_time) as hour,
        {{ or_unknown('site') }} as site,
        {{ or_unknown('format') }} as format,
        tenant_id,
        event_date,
        winner,
        clearing_price_cpm_usd,
        bids
    from {{ source('silver', 'rtb_auctions') }}
    where {{ in_run_days() }}
),

auction_totals as (
    select
        hour,
        site,
        format,
        tenant_id,
        event_date,
        count(*) as auctions,
        count(winner) as wins,
        round(avg(clearing_price_cpm_usd) filter (winner is not null), 6) as mean_clearing_price_cpm_usd
    from auctions
    group by all
),

bidders as (
    select hour, site, format, tenant_id, event_date, unnest(bids, recursive := true) from auctions
),

bidder_totals as (
    select
        hour,
        site,
        format,
        tenant_id,
        event_date,
        count(*) as bid_requests,
        count(*) filter (status = 'bid') as bids,
        count(*) filter (status = 'no_bid') as no_bids,
        count(*) filter (status = 'timeout') as timeouts,
        count(*) filter (status = 'error') as errors,
        round(avg(price_cpm_usd) filter (status = 'bid'), 6) as mean_bid_cpm_usd,
        {{ median('latency_ms') }} as median_latency_ms,
        round(quantile_cont(latency_ms, 0.95), 6) as p95_latency_ms
    from bidders
    group by all
)

select
    hour,
    site,
    format,
    tenant_id,
    event_date,
    auctions,
    coalesce(bid_requests, 0) as bid_requests,
    coalesce(bids, 0) as bids,
    coalesce(no_bids, 0) as no_bids,
    coalesce(timeouts, 0) as timeouts,
    coalesce(errors, 0) as errors,
    wins,
    {{ ratio('wins', 'auctions') }} as win_rate,
    mean_bid_cpm_usd,
    mean_clearing_price_cpm_usd,
    {{ ratio('bids', 'wins') }} as bid_to_win,
    median_latency_ms,
    p95_latency_ms
from auction_totals
left join bidder_totals using (hour, site, format, tenant_id, event_date)
