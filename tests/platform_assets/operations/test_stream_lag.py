from datetime import UTC, datetime, timedelta

import dagster as dg

from platform_assets.operations.stream_lag import CHECK, LAG, TABLES, stream_lag, verdict

NOW = datetime(2026, 11, 16, 12, tzinfo=UTC)


def said(lag: float, ago: float = 5.0):
    return NOW - timedelta(seconds=ago), {LAG: dg.MetadataValue.float(lag)}


def test_the_last_that_the_worker_said_counts():
    batch = (NOW, {"rows_in": dg.MetadataValue.int(3)})
    assert verdict([batch, said(2.0), said(200.0, 60)], NOW, 60)[0]
    passed, why = verdict([said(61.0), said(1.0, 60)], NOW, 60)
    assert not passed
    assert "61.0 s" in why
    assert "60 s are allowed" in why


def test_where_no_worker_has_reported_nothing_is_late():
    assert verdict([], NOW, 60) == (True, "no stream worker has reported")


def test_the_check_repeats_it_for_each_table():
    with dg.instance_for_test() as instance:
        late = dg.AssetMaterialization(TABLES[0], metadata={LAG: 1e6})
        instance.report_runless_asset_event(late)
        instance.report_runless_asset_event(dg.AssetMaterialization(TABLES[0], metadata={"rows_in": 1}))
        job = dg.Definitions(asset_checks=[stream_lag]).resolve_implicit_global_asset_job_def()
        result = job.execute_in_process(instance=instance)
        found = {one.asset_key: one.passed for one in result.get_asset_check_evaluations() if one.check_name == CHECK}
    assert found == {key: key != TABLES[0] for key in TABLES}


def test_the_check_of_one_table_alone():
    selection = dg.AssetSelection.checks_for_assets(TABLES[1])
    job = dg.define_asset_job("one", selection)
    defs = dg.Definitions(asset_checks=[stream_lag], jobs=[job])
    result = defs.resolve_job_def("one").execute_in_process()
    assert [one.asset_key for one in result.get_asset_check_evaluations()] == [TABLES[1]]
