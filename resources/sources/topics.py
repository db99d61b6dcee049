"""Topics of a Kafka-protocol broker, read from positions that the reader keeps itself."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from resources.landing.records import Record
from resources.settings import Settings, SettingsError

Partition = tuple[str, int]
REQUEST_SECONDS = 10.0
# Bounds a batch's memory, however large its records.
BATCH_BYTES = 32 << 20
AT_ONCE = 1_000
CLIENT = {
    # No group is joined: which partitions are read, and from where, is the reader's affair.
    "group.id": "seamless",
    "enable.auto.commit": False,
    # What is no longer there has been lost: that is said, not passed over.
    "auto.offset.reset": "error",
    "enable.partition.eof": True,
    "fetch.wait.max.ms": 100,
    # Bounds what is fetched ahead, and with it memory, however large the backlog.
    "queued.max.messages.kbytes": 65_536,
}


class BrokerError(RuntimeError):
    """The broker does not answer, or says no."""


@dataclass(frozen=True)
class Batch:
    """What was read in one go.

    Attributes:
        records: of each partition in order; a record's position is the offset after it.
        started: offset from which each of these partitions has been read; None for its beginning.
        reached: offset up to which.
        oldest: when the broker got the first of them, seconds since 1970; None if there is none.
    """

    records: dict[Partition, list[Record]]
    started: dict[Partition, int | None]
    reached: dict[Partition, int]
    oldest: float | None


class Reader:
    """Reads partitions of a broker in order, from the offsets on that it is told to ``seek``; at first none.

    Args:
        servers: the broker's bootstrap servers.
    """

    def __init__(self, servers: str) -> None:
        from confluent_kafka import Consumer

        self.servers = servers
        self._consumer = Consumer({**CLIENT, "bootstrap.servers": servers, "log_level": 0})
        self._at: dict[Partition, int | None] = {}
        self._ended: set[Partition] = set()

    def offered(self, topics: Iterable[str], seconds: float = REQUEST_SECONDS) -> set[Partition]:
        """Return the partitions that some topics have now; a topic that does not exist has none.

        Raises:
            BrokerError: the broker does not answer within some seconds.
        """
        from confluent_kafka import KafkaException

        try:
            known = self._consumer.list_topics(timeout=seconds).topics
        except KafkaException as error:
            raise BrokerError(f"the broker at {self.servers} does not answer: {_message(error)}") from None
        return {(topic, number) for topic in topics if topic in known for number in known[topic].partitions}

    def seek(self, positions: Mapping[Partition, int | None]) -> None:
        """Read these partitions, and no others, from these offsets on."""
        from confluent_kafka import TopicPartition

        self._at = dict(positions)
        self._ended.clear()
        self._read_at = time.monotonic()
        places = [(*partition, self._beginning(partition) if at is None else at) for partition, at in positions.items()]
        self._consumer.assign([TopicPartition(*place) for place in places])

    @property
    def partitions(self) -> set[Partition]:
        """What is read."""
        return set(self._at)

    def read(self, most: int, seconds: float, max_bytes: int, *, to_the_end: bool = False) -> Batch:
        """Return what comes within a time since the last read ended, and at most about so many records, or 32 MiB.

        What came while the last batch was worked on has waited long enough: it is returned at once.

        Args:
            most: records.
            seconds: time that is waited for them.
            max_bytes: a record of more is broken.
            to_the_end: do not wait where every partition has been read to its end.

        Raises:
            BrokerError: the broker says no; one that does not answer is waited for.
        """
        records: dict[Partition, list[Record]] = {}
        reached: dict[Partition, int] = {}
        until, count, size, oldest, came = self._read_at + seconds, 0, 0, None, True
        while count < most and size < BATCH_BYTES and (came or time.monotonic() < until):
            if to_the_end and self.drained:
                break
            left = min(until - time.monotonic(), 0.1)
            messages = self._consumer.consume(min(most - count, AT_ONCE), timeout=max(left, 0))
            came = bool(messages)
            for (topic, number, is_record), group in groupby(messages, key=_kind):
                partition, some = (str(topic), int(number)), list(group)
                if not is_record:
                    self._note(partition, some)
                    continue
                read = [_record(message, max_bytes) for message in some]
                count += len(read)
                size += sum(map(len, some))
                sent = min(message.timestamp()[1] for message in some) / 1_000
                oldest = sent if oldest is None else min(oldest, sent)
                reached[partition] = read[-1].position
                records.setdefault(partition, []).extend(read)
                self._ended.discard(partition)
        started = {partition: self._at[partition] for partition in reached}
        self._at |= reached
        self._read_at = time.monotonic()
        return Batch(records, started, reached, oldest)

    @property
    def drained(self) -> bool:
        """Whether every partition had no more when it was last asked."""
        return self._ended >= set(self._at)

    def close(self) -> None:
        """Leave the broker."""
        self._consumer.close()

    def _beginning(self, partition: Partition) -> int:
        """Return a partition's first offset: left to find it by itself, the client would wait half a second first."""
        from confluent_kafka import OFFSET_BEGINNING, KafkaException, TopicPartition

        try:
            return self._consumer.get_watermark_offsets(TopicPartition(*partition), timeout=REQUEST_SECONDS)[0]
        except KafkaException:
            return OFFSET_BEGINNING

    def _note(self, partition: Partition, messages: Iterable[Any]) -> None:
        """Note what the client says of a partition instead of records."""
        from confluent_kafka import KafkaError

        for error in (message.error() for message in messages):
            if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - its public name
                self._ended.add(partition)
            elif not error.retriable() and error.code() != KafkaError._ALL_BROKERS_DOWN:  # noqa: SLF001
                raise BrokerError(f"cannot read {partition}: {error.str()}")


def _kind(message: Any) -> tuple[Any, Any, bool]:
    return message.topic(), message.partition(), message.error() is None


def _record(message: Any, max_bytes: int) -> Record:
    body, position = message.value(), message.offset() + 1
    if body is None:
        return Record(position, broken="empty_message")
    if len(body) > max_bytes:
        return Record(position, broken="too_large", raw=body[:500].decode("utf-8", "replace"))
    return Record(position, None, None, None, body)  # a named argument would cost half as much again


def _message(error: Any) -> str:
    return error.args[0].str() if error.args else str(error)


def reader(settings: Settings) -> Reader:
    """Return a reader of the broker that the settings name.

    Raises:
        SettingsError: they name none.
    """
    if settings.kafka_bootstrap_servers is None:
        raise SettingsError("bad settings: KAFKA_BOOTSTRAP_SERVERS is not set; `seamless stack up` starts a broker")
    return Reader(settings.kafka_bootstrap_servers)
