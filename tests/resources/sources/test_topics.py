"""A reader on a real broker: what is there, from where it is read, and what of it is broken."""

import socket
from contextlib import closing

import pytest

from benchmarks.place import create_topics, produce
from resources.settings import SettingsError, load_settings
from resources.sources.topics import BrokerError, TopicReader, topic_reader

pytestmark = pytest.mark.slow
BOTH = {("things", 0), ("things", 1)}


@pytest.fixture
def reader(broker: str):
    with closing(TopicReader(broker)) as found:
        yield found


def lines(batch, partition):
    return [record.line for record in batch.records.get(partition, [])]


def test_topics_are_offered_as_they_come_to_exist(reader, broker):
    assert reader.list_partitions(["things", "others"]) == set()
    create_topics(broker, ["things"])
    assert reader.list_partitions(["things", "others"]) == BOTH
    create_topics(broker, ["others", "not asked for"])
    assert reader.list_partitions(["things", "others"]) == BOTH | {("others", 0), ("others", 1)}


def test_partitions_are_read_in_order_from_where_they_are_sought(reader, broker):
    create_topics(broker, ["things"])
    produce(broker, [("things", str(number).encode()) for number in range(8)])
    reader.seek({("things", 0): None, ("things", 1): 3})
    assert reader.partitions == BOTH
    batch = reader.read(100, 10, 100, to_the_end=True)
    assert lines(batch, ("things", 0)) == [b"0", b"2", b"4", b"6"]
    assert lines(batch, ("things", 1)) == [b"7"]
    assert (batch.start_positions, batch.end_positions) == (
        {("things", 0): None, ("things", 1): 3},
        {("things", 0): 4, ("things", 1): 4},
    )
    assert reader.drained
    reader.seek({("things", 0): 2})
    assert not reader.drained
    again = reader.read(100, 10, 100, to_the_end=True)
    assert (lines(again, ("things", 0)), again.records.keys()) == ([b"4", b"6"], {("things", 0)})


def test_what_comes_later_is_read_on_and_no_more_than_was_asked_for(reader, broker):
    create_topics(broker, ["things"])
    reader.seek(dict.fromkeys(BOTH))
    nothing = reader.read(100, 10, 100, to_the_end=True)
    assert (nothing.records, nothing.end_positions, nothing.oldest_timestamp) == ({}, {}, None)
    produce(broker, [("things", str(number).encode()) for number in range(10)])
    first = reader.read(4, 10, 100)
    assert sum(map(len, first.records.values())) == 4
    rest = reader.read(100, 10, 100, to_the_end=True)
    assert sorted(lines(first, one) + lines(rest, one) for one in sorted(BOTH)) == [
        [b"0", b"2", b"4", b"6", b"8"],
        [b"1", b"3", b"5", b"7", b"9"],
    ]


def test_what_is_empty_or_too_large_is_a_broken_record_in_its_place(reader, broker):
    create_topics(broker, ["things"])
    produce(broker, [("things", body) for body in (b"good", b"", b"x" * 200, b"", None, b"")])
    reader.seek({("things", 0): None})
    batch = reader.read(100, 10, 100, to_the_end=True)
    assert [(r.position, r.line, r.broken) for r in batch.records["things", 0]] == [
        (1, b"good", None),
        (2, None, "too_large"),
        (3, None, "empty_message"),
    ]


def test_a_broker_that_does_not_answer_is_one_line():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        with (
            closing(TopicReader(address)) as reader,
            pytest.raises(BrokerError, match=f"^the broker at {address} does not answer: "),
        ):
            reader.list_partitions(["things"], 0.5)


def test_no_broker_is_a_matter_of_settings():
    with pytest.raises(SettingsError, match="KAFKA_BOOTSTRAP_SERVERS is not set"):
        topic_reader(load_settings())
