import dagster as dg
import polars as pl

from platform_assets.gold.special_topics import no_special_topics
from resources.lakehouse.tables import Lakehouse

TABLE = "gold/psychosocial_daily"


def passes(lake):
    defs = dg.Definitions(asset_checks=[no_special_topics], resources={"lakehouse": lake})
    (checked,) = defs.resolve_implicit_global_asset_job_def().execute_in_process().get_asset_check_evaluations()
    return checked.passed


def test_the_check_fails_once_a_special_topic_stands_beside_a_person(tmp_path):
    lake = Lakehouse(uri=str(tmp_path))
    assert passes(lake)
    rows = pl.DataFrame({"tenant_id": ["acme"], "author_id": ["u-1"], "messages": [2]})
    lake.replace_all(TABLE, rows)
    assert passes(lake)
    lake.replace_all(TABLE, rows.with_columns(top_topic=pl.lit("Sports > Soccer")))
    assert passes(lake)
    lake.replace_all(TABLE, rows.with_columns(top_topic=pl.lit("Religion & Spirituality > Islam")))
    assert not passes(lake)
