select
    author_id,
    tenant_id,
    event_date,
    count(*) as messages,
    count(*) filter (is_reply) as replies,
    {{ share("sentiment = 'negative'") }} as negative_share,
    {{ share("sentiment = 'neutral'") }} as neutral_share,
    {{ share("sentiment = 'positive'") }} as positive_share,
    count(*) filter (emotion = 'anger') as anger_messages,
    count(*) filter (emotion = 'joy') as joy_messages,
    count(*) filter (emotion = 'optimism') as optimism_messages,
    count(*) filter (emotion = 'sadness') as sadness_messages,
    {{ share("toxicity = 'offensive'") }} as offensive_share,
    {{ share("hate = 'hate'") }} as hateful_share,
    {{ share("irony = 'irony'") }} as ironic_share,
    {{ share('risky') }} as risky_share,
    {{ mean('emoji_sentiment') }} as mean_emoji_sentiment,
    {{ mean('lexical_diversity') }} as mean_lexical_diversity,
    {{ mean('reading_ease') }} as mean_reading_ease,
    {{ mean('pronouns_first_singular + pronouns_first_plural') }} as first_person_share,
    {{ mean('negations') }} as negation_share,
    {{ median('response_delay_s') }} as median_response_delay_s,
    {{ share('hour_of_day >= 22 or hour_of_day < 6') }} as night_share
from {{ source('silver', 'message_signals') }}
left join
    (select * exclude (author_id) from {{ source('silver', 'message_features') }})
    using (tenant_id, message_id, event_date)
where author_consents and {{ in_run_days() }}
group by all
