"""The responses of a WARC file (ISO 28500), and what HTTP wrapped around their bodies undone.

Ours and not a library's: those that are well kept read headers without a limit, end at the first damaged record, or
hand on what they cannot decode.
"""

import zlib
from collections.abc import Iterator
from contextlib import suppress
from typing import IO, NamedTuple

# Bytes that the header of a record, or of the response in it, may have.
MAX_HEADER = 64 * 1024
# Codings that may be wrapped around each other, each of which costs a pass.
MAX_CODINGS = 3
SKIPPED_AT_ONCE = 1 << 20

ALIASES = {"x-gzip": "gzip", "br": "brotli", "x-deflate": "deflate"}
ARROW = frozenset({"brotli", "gzip", "zstd"})
NO_CODING = frozenset({"", "identity", "none"})
# How a page or a picture begins that a crawler has decoded already, though it kept the header.
AS_IT_IS = (b"<", b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"RIFF")


class CodingError(ValueError):
    """What HTTP wrapped around a body cannot be undone; the message is the rule that it breaks."""


class Response(NamedTuple):
    """One response, or resource, of a WARC file.

    Attributes:
        url: its address, if its header could be read.
        date: when it was fetched, as the file says.
        broken: the rule that it breaks: ``header_too_large``, ``bad_warc_header``, ``bad_http_header``,
            ``truncated``, ``bad_transfer_encoding``, ``bad_content_encoding``, ``too_large``.
        http_status: of an HTTP response.
        content_type: header of the response, or of the record if it is none.
        content_encoding: header of the response.
        body: bytes, without the codings of HTTP.
    """

    url: str | None = None
    date: str | None = None
    broken: str | None = None
    http_status: int | None = None
    content_type: str | None = None
    content_encoding: str | None = None
    body: bytes = b""


def responses(file: IO[bytes], max_bytes: int) -> Iterator[Response]:
    """Yield the responses and resources of a WARC file; requests, metadata and revisits are no fetches.

    Args:
        file: the file, unpacked.
        max_bytes: most bytes that a body may have, coded and decoded.

    Raises:
        ValueError: the file is no WARC file, or ends within a record.
        OSError: it cannot be read on.
    """
    while (line := _next_line(file)) is not None:
        if not line.startswith(b"WARC/"):
            line = _skip_to_record(file, line)
            yield Response(broken="bad_warc_header")
        headers = _record_headers(file, line)
        length = headers.get("content-length", "")
        whole = headers.pop("", None) is None
        if not (length.isascii() and length.isdigit()):
            yield Response(broken="bad_warc_header" if whole else "header_too_large")
            continue
        kind = headers.get("warc-type", "").lower()
        wanted = kind in {"response", "resource"}
        block = _block(file, int(length), max_bytes + MAX_HEADER if wanted and whole else 0)
        if not whole:
            yield Response(broken="header_too_large")
        elif wanted:
            yield _response(headers, block, int(length), max_bytes)


def _next_line(file: IO[bytes]) -> bytes | None:
    """Return the next line that is not blank; None at the end of the file."""
    while line := file.readline(MAX_HEADER):
        if line.strip():
            return line
    return None


def _skip_to_record(file: IO[bytes], line: bytes) -> bytes:
    """Read on to the next line that begins a record, and return it."""
    begins = line.endswith(b"\n")
    while line := file.readline(MAX_HEADER):
        if begins and line.startswith(b"WARC/"):
            return line
        begins = line.endswith(b"\n")
    raise ValueError("no record begins where one should")


def _record_headers(file: IO[bytes], line: bytes) -> dict[str, str]:
    """Return the headers of a record, to the blank line; with a key "" if they are too large to be all kept."""
    lines: list[bytes] = []
    size, begins, fits = len(line), line.endswith(b"\n"), True
    while line := file.readline(MAX_HEADER):
        if begins and not line.strip():
            return _headers(lines) | ({} if fits else {"": "too large"})
        size += len(line)
        fits = fits and begins and line.endswith(b"\n") and size <= MAX_HEADER
        # The length is kept also of one that is too large: it tells where the next record begins.
        if fits or (begins and line[:15].lower() == b"content-length:"):
            lines.append(line)
        begins = line.endswith(b"\n")
    raise ValueError("the header of a record is cut short")


def _block(file: IO[bytes], length: int, wanted: int) -> bytes:
    """Read the block of a record to its end, and return as much of it as is wanted."""
    block = file.read(min(length, wanted))
    left = length - len(block)
    while left and (skipped := file.read(min(left, SKIPPED_AT_ONCE))):
        left -= len(skipped)
    if left:
        raise ValueError("a record is cut short")
    return block


def _headers(lines: list[bytes]) -> dict[str, str]:
    """Return headers by their names in lower case: the first of several, but all codings."""
    headers: dict[str, str] = {}
    name = ""
    for line in lines:
        text = line.decode("utf-8", "replace").rstrip("\r\n")
        if text[:1] in {" ", "\t"} and name in headers:
            headers[name] += " " + text.strip()
            continue
        name, colon, value = text.partition(":")
        name, value = name.strip().lower(), value.strip()
        if colon and name in headers and name.endswith("-encoding"):
            headers[name] += ", " + value
        elif colon and name:
            headers.setdefault(name, value)
    return headers


def _response(headers: dict[str, str], block: bytes, length: int, max_bytes: int) -> Response:
    url = headers.get("warc-target-uri", "")
    url = url[1:-1] if url.startswith("<") and url.endswith(">") else url
    response = Response(url=url or None, date=headers.get("warc-date"))
    if "warc-truncated" in headers or "warc-segment-number" in headers:
        return response._replace(broken="truncated")
    media = headers.get("content-type", "")
    if media.lower().startswith("application/http") or (not media and block.startswith(b"HTTP/")):
        return _http(response, block, length, max_bytes)
    if length > max_bytes:
        return response._replace(broken="too_large")
    return response._replace(content_type=media or None, body=block)


def _http(response: Response, block: bytes, length: int, max_bytes: int) -> Response:
    """Return a response with what its HTTP message says."""
    beginning = block[:MAX_HEADER]
    at = min((i + len(end) for end in (b"\r\n\r\n", b"\n\n") if (i := beginning.find(end)) >= 0), default=None)
    if at is None and length > MAX_HEADER:
        return response._replace(broken="header_too_large")
    at = length if at is None else at
    status, *lines = block[:at].splitlines()
    code = status.split()[1:2]
    if not status.startswith(b"HTTP/") or not code or not (code[0].isdigit() and len(code[0]) == 3):
        return response._replace(broken="bad_http_header")
    headers = _headers(lines)
    coding = headers.get("content-encoding")
    response = response._replace(
        http_status=int(code[0]), content_type=headers.get("content-type"), content_encoding=coding
    )
    if length - at > max_bytes:
        return response._replace(broken="too_large")
    try:
        body = block[at:]
        if "chunked" in headers.get("transfer-encoding", "").lower():
            body = dechunked(body)
        return response._replace(body=uncoded(body, coding, max_bytes))
    except CodingError as error:
        return response._replace(broken=str(error))


def dechunked(body: bytes) -> bytes:
    """Return a body without the chunks of HTTP/1.1; as it is, if a crawler has joined them already.

    Raises:
        CodingError: ``bad_transfer_encoding``: it begins as chunks, and does not go on as such.
    """
    parts: list[bytes] = []
    at = 0
    while True:
        end = body.find(b"\n", at, at + MAX_HEADER)
        size = body[at:end].split(b";")[0].strip() if end >= 0 else b""
        try:
            length = int(size, 16) if size.isalnum() else -1
        except ValueError:
            length = -1
        if length < 0 or end + 1 + length > len(body):
            if not parts:
                return body
            raise CodingError("bad_transfer_encoding")
        if length == 0:
            return b"".join(parts)
        parts.append(body[end + 1 : end + 1 + length])
        at = end + 1 + length
        at += 2 if body.startswith(b"\r\n", at) else 1 if body.startswith(b"\n", at) else 0


def uncoded(body: bytes, content_encoding: str | None, max_bytes: int) -> bytes:
    """Return a body without its content codings; as it is, if a crawler has undone them already.

    Args:
        body: as received.
        content_encoding: the header; several codings are undone from the last to the first.
        max_bytes: most bytes that it may have after each.

    Raises:
        CodingError: ``bad_content_encoding`` or ``too_large``.
    """
    codings = [coding.strip().lower() for coding in (content_encoding or "").split(",")]
    codings = [ALIASES.get(coding, coding) for coding in codings if coding not in NO_CODING]
    if len(codings) > MAX_CODINGS:
        raise CodingError("bad_content_encoding")
    for coding in reversed(codings):
        decoded = _decoded(body, coding, max_bytes) if body else b""
        if decoded is None:
            if not _is_as_it_is(body):
                raise CodingError("bad_content_encoding")
            return body
        if len(decoded) > max_bytes:
            raise CodingError("too_large")
        body = decoded
    return body


def _decoded(body: bytes, coding: str, max_bytes: int) -> bytes | None:
    """Return at most one byte more than ``max_bytes`` of what is coded; None if it is not, or not all there."""
    if coding in ARROW:
        import pyarrow as pa

        with suppress(OSError):
            return bytes(pa.CompressedInputStream(pa.BufferReader(body), coding).read(max_bytes + 1))
    if coding == "deflate":
        # By the standard with a header, by some servers without.
        for bits in (zlib.MAX_WBITS, -zlib.MAX_WBITS):
            with suppress(zlib.error):
                inflating = zlib.decompressobj(bits)
                inflated = inflating.decompress(body, max_bytes + 1)
                if inflating.eof or len(inflated) > max_bytes:
                    return inflated
    return None


def _is_as_it_is(body: bytes) -> bool:
    if body.lstrip().startswith(AS_IT_IS):
        return True
    with suppress(UnicodeDecodeError):
        return "\0" not in body.decode()
    return False
