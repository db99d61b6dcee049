"""The entry point of the code location: every asset, check, sensor and resource. It does no I/O."""

from functools import partial

import dagster as dg

from platform_assets import bronze, models, operations, published, reports, silver
from platform_assets.conventions import days_from
from platform_assets.gold.special_topics import no_special_topics
from platform_assets.gold.tables import gold_tables
from platform_assets.operations.stream_lag import stream_lag
from resources.access_log import AccessLog
from resources.encoder import encoder
from resources.lakehouse.tables import lakehouse
from resources.registry.models import registry
from resources.settings import settings
from resources.signal_store.stores import signal_store
from sensors.materialize_stale import materialize_stale
from sensors.nightly import nightly
from sensors.retrain_encoder import retrain_encoder


@dg.definitions
def defs() -> dg.Definitions:
    """Return the definitions of the code location."""
    configured = settings()
    layers = [bronze, silver, published, reports, operations]
    found = (asset for layer in layers for asset in dg.load_assets_from_package_module(layer))
    tables = [*(asset for asset in found if isinstance(asset, dg.AssetsDefinition)), gold_tables()]
    days = days_from(configured.first_day)
    return dg.Definitions(
        assets=[
            *dg.map_asset_specs(
                lambda spec: spec.replace_attributes(partitions_def=days) if spec.partitions_def else spec, tables
            ),
            *models.ASSETS,
        ],
        asset_checks=[stream_lag, no_special_topics],
        resources={
            "lakehouse": lakehouse(configured),
            "access_log": AccessLog(configured),
            # A new one for each run and sensor evaluation, because each looks up once which encoder serves.
            "encoder": dg.ResourceDefinition(lambda _: encoder(configured)),
            "registry": registry(configured),
            "open_signal_store": partial(signal_store, configured),
        },
        schedules=[nightly],
        sensors=[materialize_stale, retrain_encoder],
        executor=dg.in_process_executor,
    )
