"""As received: one table a kind of record, with where each row came from."""

from importlib import import_module

from platform_assets.records import Received

TABLES = (
    "ad_events",
    "inventory",
    "page_fetches",
    "review_labels",
    "rtb_auctions",
    "seller_declarations",
    "social_messages",
    "user_profiles",
    "user_sync",
)
RECEIVED: tuple[Received, ...] = tuple(import_module(f"{__name__}.{table}").EXPECTED for table in TABLES)
