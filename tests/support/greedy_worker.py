"""A worker that takes what its contents say: memory, time, or its own process."""

import os

WARM_UP = b"nothing"


def answer(content: bytes) -> bytes:
    """Return the content in capitals, if it lets that happen."""
    if content == b"memory":
        return bytes(4 << 30)
    while content == b"time":
        pass
    if content == b"process":
        os._exit(0)
    return content.upper()
