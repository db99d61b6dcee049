"""As received: one table a kind of record, with where each row came from."""

from platform_assets.bronze import (
    ad_events,
    inventory,
    page_fetches,
    review_labels,
    rtb_auctions,
    social_messages,
    user_profiles,
    user_sync,
)

RECEIVED = tuple(
    module.EXPECTED
    for module in (
        ad_events,
        inventory,
        page_fetches,
        review_labels,
        rtb_auctions,
        social_messages,
        user_profiles,
        user_sync,
    )
)
