"""Topics of a Kafka-protocol broker, read from positions that the caller stores."""

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
CONSUME_MESSAGES = 1_000
CLIENT = {
    # No group is joined: partitions and positions are assigned by ``TopicReader.seek``.
    "group.id": "seamless",
    "enable.auto.commit": False,
    # A position that the broker has deleted is an error: its records would be lost silently.
    "auto.offset.reset": "error",
    "enable.partition.eof": True,
    "fetch.wait.max.ms": 100,
    # Bounds the memory of prefetched messages, however large the backlog.
    "queued.max.messages.kbytes": 65_536,
}


class BrokerError(RuntimeError):
    """The broker does not answer, or refuses."""


@dataclass(frozen=True)
class Batch:
    """The records of one read.

    Attributes:
        records: of each partition in order; a record's position is the offset after it.
        start_positions: offset at which each of these partitions was; None for its beginning.
        end_positions: offset that each has reached.
        oldest_timestamp: when the broker received the first record, seconds since 1970; None without records.
    """

    records: dict[Partition, list[Record]]
    start_positions: dict[Partition, int | None]
    end_positions: dict[Partition, int]
    oldest_timestamp: float | None


class TopicReader:
    """Reads partitions of a broker in order, from the offsets that ``seek`` sets.

    Args:
        servers: the broker's bootstrap servers.
    """

    def __init__(self, servers: str) -> None:
        from confluent_kafka import Consumer

        self.servers = servers
        self._consumer = Consumer({**CLIENT, "bootstrap.servers": servers, "log_level": 0})
        self._positions: dict[Partition, int | None] = {}
        self._ended: set[Partition] = set()

    def list_partitions(self, topics: Iterable[str], timeout: float = REQUEST_SECONDS) -> set[Partition]:
        """Return the partitions of topics; a topic that does not exist has none.

        Raises:
            BrokerError: the broker does not answer within ``timeout`` seconds.
        """
        from confluent_kafka import KafkaException

        try:
            metadata = self._consumer.list_topics(timeout=timeout).topics
        except KafkaException as error:
            raise BrokerError(f"the broker at {self.servers} does not answer: {_message(error)}") from None
        return {(topic, number) for topic in topics if topic in metadata for number in metadata[topic].partitions}

    def seek(self, positions: Mapping[Partition, int | None]) -> None:
        """Read these partitions, and no others, from these offsets on."""
        from confluent_kafka import TopicPartition

        self._positions = dict(positions)
        self._ended.clear()
        self._read_at = time.monotonic()
        offsets = {partition: self._beginning(partition) if at is None else at for partition, at in positions.items()}
        self._consumer.assign([TopicPartition(*partition, offset) for partition, offset in offsets.items()])

    @property
    def partitions(self) -> set[Partition]:
        """The partitions that are read."""
        return set(self._positions)

    def read(self, max_records: int, seconds: float, max_bytes: int, *, to_the_end: bool = False) -> Batch:
        """Return the records that arrive within some seconds of the end of the last read, up to about 32 MiB.

        Records that arrived while the last batch was processed are returned without a wait.

        Args:
            max_records: records to return at most.
            seconds: time to wait for them.
            max_bytes: a record of more is broken.
            to_the_end: do not wait once every partition was read to its end.

        Raises:
            BrokerError: the broker refuses; one that does not answer is waited for.
        """
        records: dict[Partition, list[Record]] = {}
        positions: dict[Partition, int] = {}
        deadline, count, size, oldest, received = self._read_at + seconds, 0, 0, None, True
        while count < max_records and size < BATCH_BYTES and (received or time.monotonic() < deadline):
            if to_the_end and self.drained:
                break
            timeout = max(min(deadline - time.monotonic(), 0.1), 0)
            messages = self._consumer.consume(min(max_records - count, CONSUME_MESSAGES), timeout=timeout)
            received = bool(messages)
            for (topic, number, is_record), group in groupby(messages, key=_group_key):
                partition, of_partition = (str(topic), int(number)), list(group)
                if not is_record:
                    self._handle_errors(partition, of_partition)
                    continue
                parsed = [_record(message, max_bytes) for message in of_partition]
                count += len(parsed)
                size += sum(map(len, of_partition))
                timestamp = min(message.timestamp()[1] for message in of_partition) / 1_000
                oldest = timestamp if oldest is None else min(oldest, timestamp)
                positions[partition] = parsed[-1].position
                records.setdefault(partition, []).extend(parsed)
                self._ended.discard(partition)
        start_positions = {partition: self._positions[partition] for partition in positions}
        self._positions |= positions
        self._read_at = time.monotonic()
        return Batch(records, start_positions, positions, oldest)

    @property
    def drained(self) -> bool:
        """Whether every partition was read to its end."""
        return self._ended >= set(self._positions)

    def close(self) -> None:
        """Close the connection."""
        self._consumer.close()

    def _beginning(self, partition: Partition) -> int:
        """Return a partition's first offset: the client, left to find it by itself, waits half a second first."""
        from confluent_kafka import OFFSET_BEGINNING, KafkaException, TopicPartition

        try:
            return self._consumer.get_watermark_offsets(TopicPartition(*partition), timeout=REQUEST_SECONDS)[0]
        except KafkaException:
            return OFFSET_BEGINNING

    def _handle_errors(self, partition: Partition, messages: Iterable[Any]) -> None:
        """Mark the partition as read to its end, or raise, by the error that each message carries."""
        from confluent_kafka import KafkaError

        for error in (message.error() for message in messages):
            if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - its public name
                self._ended.add(partition)
            elif not error.retriable() and error.code() != KafkaError._ALL_BROKERS_DOWN:  # noqa: SLF001
                raise BrokerError(f"cannot read {partition}: {error.str()}")


def _group_key(message: Any) -> tuple[Any, Any, bool]:
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


def topic_reader(settings: Settings) -> TopicReader:
    """Return a reader of the broker that the settings name.

    Raises:
        SettingsError: the settings name no broker.
    """
    if settings.kafka_bootstrap_servers is None:
        raise SettingsError("bad settings: KAFKA_BOOTSTRAP_SERVERS is not set; `seamless stack up` starts a broker")
    return TopicReader(settings.kafka_bootstrap_servers)
