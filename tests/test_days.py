"""Days one by one, by file and by topic, in any order, give what all of their records give at once."""

import time
from pathlib import Path

import pytest

from benchmarks.days import TOPICS, deliver, deliveries, differences
from benchmarks.place import create_topics
from tests.support.graph import Graph

pytestmark = pytest.mark.slow
# Every third comes by topic.
DAYS = 3


def test_days_one_by_one_give_what_all_at_once_give(home: Path, tmp_path: Path, broker: str, monkeypatch):
    create_topics(broker, TOPICS.values())
    daily, whole = Graph(tmp_path / "daily", home, broker), Graph(tmp_path / "whole", home)
    days = list(deliveries(DAYS))
    for day in (1, 2, 0):
        # What the stream leaves to batch, the run of the day that comes after it makes.
        deliver(daily, day, days[day], broker)[0]()
    for day, records in enumerate(days):
        for name, rows in records.items():
            whole.land(f"{name}/{day:02d}.jsonl", rows)
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    try:
        whole.run()
    finally:
        monkeypatch.undo()
        time.tzset()
    assert set(whole.tables()) == set(daily.tables())
    assert differences(whole, daily) == []
    told = whole.lake.read("silver/message_features").drop_nulls("response_delay_s").height
    assert told
    assert whole.lake.count("silver/decisions")
    assert whole.lake.read("gold/ad_performance_hourly")["signals_source"].n_unique() > 1
