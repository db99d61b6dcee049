"""A store in a DynamoDB table, or behind a DAX cluster in front of one.

The table's partition key is ``key`` (binary). ``entry`` (binary) is what is held, ``expires`` its time to live.
"""

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from random import uniform
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from botocore.exceptions import ClientError

from resources.settings import Settings, SettingsError
from resources.signal_store.entries import Entry, encoded, leaves_at
from resources.signal_store.stores import Choose, SignalStore

# Keys of one read, as the service limits it; writes, and connections, at a time.
READ, WRITERS = 100, 16
# Seconds before what the service left out is asked for again; doubled each time.
WAIT, MAX_WAIT = 0.05, 2.0
SAME, ABSENT = "#entry = :before", "attribute_not_exists(#entry)"
OVERTAKEN = "ConditionalCheckFailedException"


class DynamoDbStore(SignalStore):
    """A store in a DynamoDB table.

    Consumers' reads are eventually consistent. Each key is written by itself, on the condition that it still holds what
    was read.

    Args:
        client: boto3's client, or one that has its methods.
        table: name of the table.
    """

    local = False

    def __init__(self, client: Any, table: str) -> None:
        self._client, self._table = client, table
        self._writers = ThreadPoolExecutor(WRITERS, "dynamodb")

    def close(self) -> None:
        """Close the connections."""
        self._writers.shutdown()
        self._client.close()

    def _read(self, keys: Sequence[bytes], *, consistent: bool = False) -> list[bytes | None]:
        found: dict[bytes, bytes] = {}
        waiting, wait = list(dict.fromkeys(keys)), WAIT
        while waiting:
            asked = {"Keys": [_key(key) for key in waiting[:READ]], "ConsistentRead": consistent}
            answer = self._client.batch_get_item(RequestItems={self._table: asked})
            found |= {item["key"]["B"]: item["entry"]["B"] for item in answer["Responses"].get(self._table, ())}
            left = answer.get("UnprocessedKeys", {}).get(self._table, {}).get("Keys", [])
            waiting = waiting[READ:] + [key["key"]["B"] for key in left]
            if left:
                time.sleep(uniform(wait / 2, wait))  # noqa: S311 - it only keeps askers apart
                wait = min(wait * 2, MAX_WAIT)
        return [found.get(key) for key in keys]

    def _replace(self, keys: Sequence[bytes], choose: Choose) -> list[bytes]:
        stored = dict(zip(keys, self._read(keys, consistent=True), strict=True))
        written = dict[bytes, None]()
        while chosen := choose([*stored.values()]):
            done = self._writers.map(self._write, chosen, [stored[key] for key in chosen], chosen.values())
            of_key = dict(zip(chosen, done, strict=True))
            written |= dict.fromkeys(key for key, was_written in of_key.items() if was_written)
            if all(of_key.values()):
                break
            # Another writer was faster: the choice is made anew on what it has put there.
            stored |= dict(zip(chosen, self._read([*chosen], consistent=True), strict=True))
        return [*written]

    def _write(self, key: bytes, before: bytes | None, entry: Entry | None) -> bool:
        """Write an entry, or delete it where it is None; return False where the key does not hold what it did."""
        asked: dict[str, Any] = {"TableName": self._table, "ExpressionAttributeNames": {"#entry": "entry"}}
        asked["ConditionExpression"] = ABSENT if before is None else SAME
        if before is not None:
            asked["ExpressionAttributeValues"] = {":before": {"B": before}}
        try:
            if entry is None:
                self._client.delete_item(Key=_key(key), **asked)
            else:
                expires = {"N": f"{leaves_at(entry).timestamp():.0f}"}
                self._client.put_item(Item=_key(key) | {"entry": {"B": encoded(entry)}, "expires": expires}, **asked)
        except ClientError as error:
            if error.response["Error"]["Code"] == OVERTAKEN:
                return False
            raise
        return True

    def _keys(self, prefix: bytes) -> Iterator[bytes]:
        asked: dict[str, Any] = {"TableName": self._table, "ConsistentRead": True, "ProjectionExpression": "#key"}
        asked["ExpressionAttributeNames"] = {"#key": "key"}
        # A filter of the service would read as much.
        while True:
            page = self._client.scan(**asked)
            yield from (key for item in page["Items"] if (key := item["key"]["B"]).startswith(prefix))
            if "LastEvaluatedKey" not in page:
                return
            asked["ExclusiveStartKey"] = page["LastEvaluatedKey"]


def dynamodb_store(address: str, settings: Settings) -> DynamoDbStore:
    """Return the store of an address: ``dynamodb://TABLE``, with ``region``, ``endpoint`` and ``dax`` as parameters.

    Raises:
        SettingsError: the address has no table or another parameter, or the client of DAX is not installed.
    """
    import boto3
    from botocore.config import Config

    parts = urlsplit(address)
    given = dict(parse_qsl(parts.query))
    if not parts.netloc or given.keys() - {"region", "endpoint", "dax"}:
        raise SettingsError("bad settings: SIGNAL_STORE: dynamodb://TABLE?region=…, endpoint= or dax= is expected")
    key_id, secret = settings.aws_access_key_id, settings.aws_secret_access_key
    session = boto3.Session(
        aws_access_key_id=key_id and key_id.get_secret_value(),
        aws_secret_access_key=secret and secret.get_secret_value(),
        region_name=given.get("region", settings.aws_region),
    )
    if "dax" in given:
        return DynamoDbStore(_dax(session, given["dax"]), parts.netloc)
    # AWS_ENDPOINT_URL is that of the bucket.
    config = Config(ignore_configured_endpoint_urls=True, max_pool_connections=WRITERS, retries={"mode": "standard"})
    return DynamoDbStore(session.client("dynamodb", endpoint_url=given.get("endpoint"), config=config), parts.netloc)


def _dax(session: Any, address: str) -> Any:
    try:
        client = import_module("amazondax").AmazonDaxClient
    except ImportError:
        fault = "SIGNAL_STORE: dax= needs the package amazon-dax-client, which is not installed"
        raise SettingsError(f"bad settings: {fault}") from None
    return client(session, region_name=session.region_name, endpoint_url=address)


def _key(key: bytes) -> dict[str, dict[str, bytes]]:
    return {"key": {"B": key}}
