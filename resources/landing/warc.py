"""The responses of a WARC file (ISO 28500), with HTTP's transfer and content codings removed.

Not a library: the maintained ones read headers without a limit, end at the first damaged record, or pass on bodies that
they cannot decode.
"""

import zlib
from collections.abc import Iterator
from contextlib import suppress
from typing import IO, NamedTuple

# Bytes of a record's header, or of the HTTP header in it.
MAX_HEADER = 64 * 1024
# Nested content codings, each of which costs a pass over the body.
MAX_CODINGS = 3
SKIP_BYTES = 1 << 20

ALIASES = {"x-gzip": "gzip", "br": "brotli", "x-deflate": "deflate"}
ARROW_CODINGS = frozenset({"brotli", "gzip", "zstd"})
NO_CODING = frozenset({"", "identity", "none"})
# First bytes of pages and pictures that a crawler has decoded already, though it kept the header.
DECODED_PREFIXES = (b"<", b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"RIFF")


class CodingError(ValueError):
    """A coding of a body cannot be removed; the message is the rule that the body breaks."""


class Response(NamedTuple):
    """One response, or resource, of a WARC file.

    Attributes:
        url: its address, if the record's header could be read.
        date: the record's date of the fetch.
        broken: the rule that it breaks: ``header_too_large``, ``bad_warc_header``, ``bad_http_header``,
            ``truncated``, ``bad_transfer_encoding``, ``bad_content_encoding``, ``too_large``.
        http_status: status of an HTTP response.
        content_type: header of an HTTP response, else of the record.
        content_encoding: header of an HTTP response.
        body: bytes without the codings of HTTP.
    """

    url: str | None = None
    date: str | None = None
    broken: str | None = None
    http_status: int | None = None
    content_type: str | None = None
    content_encoding: str | None = None
    body: bytes = b""


def responses(file: IO[bytes], max_bytes: int) -> Iterator[Response]:
    """Yield the responses and resources of a WARC file; requests, metadata and revisits are skipped.

    Args:
        file: the unpacked file.
        max_bytes: limit of a body's bytes, coded and decoded.

    Raises:
        ValueError: the file is no WARC file, or ends within a record.
        OSError: it cannot be read.
    """
    while (line := _next_line(file)) is not None:
        if not line.startswith(b"WARC/"):
            line = _skip_to_record(file, line)
            yield Response(broken="bad_warc_header")
        headers = _record_headers(file, line)
        length = headers.get("content-length", "")
        complete = headers.pop("", None) is None
        if not (length.isascii() and length.isdigit()):
            yield Response(broken="bad_warc_header" if complete else "header_too_large")
            continue
        is_response = headers.get("warc-type", "").lower() in {"response", "resource"}
        block = _block(file, int(length), max_bytes + MAX_HEADER if is_response and complete else 0)
        if not complete:
            yield Response(broken="header_too_large")
        elif is_response:
            yield _response(headers, block, int(length), max_bytes)


def _next_line(file: IO[bytes]) -> bytes | None:
    """Return the next line that is not blank; None at the end of the file."""
    while line := file.readline(MAX_HEADER):
        if line.strip():
            return line
    return None


def _skip_to_record(file: IO[bytes], line: bytes) -> bytes:
    """Read to the next line that begins a record, and return it."""
    line_start = line.endswith(b"\n")
    while line := file.readline(MAX_HEADER):
        if line_start and line.startswith(b"WARC/"):
            return line
        line_start = line.endswith(b"\n")
    raise ValueError("no record begins where one should")


def _record_headers(file: IO[bytes], line: bytes) -> dict[str, str]:
    """Return the headers of a record, up to the blank line; with a key "" if they exceed the limit."""
    lines: list[bytes] = []
    size, line_start, fits = len(line), line.endswith(b"\n"), True
    while line := file.readline(MAX_HEADER):
        if line_start and not line.strip():
            return _headers(lines) | ({} if fits else {"": "too large"})
        size += len(line)
        fits = fits and line_start and line.endswith(b"\n") and size <= MAX_HEADER
        # The length is needed even of a record over the limit: it gives the start of the next one.
        if fits or (line_start and line[:15].lower() == b"content-length:"):
            lines.append(line)
        line_start = line.endswith(b"\n")
    raise ValueError("the header of a record is cut short")


def _block(file: IO[bytes], length: int, limit: int) -> bytes:
    """Read the block of a record to its end, and return its first bytes up to a limit."""
    block = file.read(min(length, limit))
    remaining = length - len(block)
    while remaining and (skipped := file.read(min(remaining, SKIP_BYTES))):
        remaining -= len(skipped)
    if remaining:
        raise ValueError("a record is cut short")
    return block


def _headers(lines: list[bytes]) -> dict[str, str]:
    """Return headers by their names in lower case: the first of a repeated one, but all codings joined."""
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
    """Return a response with the status, headers and body of its HTTP message."""
    prefix = block[:MAX_HEADER]
    body_start = min((i + len(end) for end in (b"\r\n\r\n", b"\n\n") if (i := prefix.find(end)) >= 0), default=None)
    if body_start is None and length > MAX_HEADER:
        return response._replace(broken="header_too_large")
    body_start = length if body_start is None else body_start
    status, *lines = block[:body_start].splitlines()
    code = status.split()[1:2]
    if not status.startswith(b"HTTP/") or not code or not (code[0].isdigit() and len(code[0]) == 3):
        return response._replace(broken="bad_http_header")
    headers = _headers(lines)
    coding = headers.get("content-encoding")
    response = response._replace(
        http_status=int(code[0]), content_type=headers.get("content-type"), content_encoding=coding
    )
    if length - body_start > max_bytes:
        return response._replace(broken="too_large")
    try:
        body = block[body_start:]
        if "chunked" in headers.get("transfer-encoding", "").lower():
            body = join_chunks(body)
        return response._replace(body=decode_content(body, coding, max_bytes))
    except CodingError as error:
        return response._replace(broken=str(error))


def join_chunks(body: bytes) -> bytes:
    """Return a body without the chunks of HTTP/1.1; unchanged if a crawler has joined them already.

    Raises:
        CodingError: ``bad_transfer_encoding``: it begins with a chunk, but does not continue with chunks.
    """
    parts: list[bytes] = []
    offset = 0
    while True:
        end = body.find(b"\n", offset, offset + MAX_HEADER)
        size = body[offset:end].split(b";")[0].strip() if end >= 0 else b""
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
        offset = end + 1 + length
        offset += 2 if body.startswith(b"\r\n", offset) else 1 if body.startswith(b"\n", offset) else 0


def decode_content(body: bytes, content_encoding: str | None, max_bytes: int) -> bytes:
    """Return a body without its content codings; unchanged if a crawler has removed them already.

    Args:
        body: the body as received.
        content_encoding: the header; several codings are removed from the last to the first.
        max_bytes: limit of the bytes after each coding.

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
            if not _is_decoded(body):
                raise CodingError("bad_content_encoding")
            return body
        if len(decoded) > max_bytes:
            raise CodingError("too_large")
        body = decoded
    return body


def _decoded(body: bytes, coding: str, max_bytes: int) -> bytes | None:
    """Return at most ``max_bytes`` + 1 decoded bytes; None if the body is not of this coding, or incomplete."""
    if coding in ARROW_CODINGS:
        import pyarrow as pa

        with suppress(OSError):
            return bytes(pa.CompressedInputStream(pa.BufferReader(body), coding).read(max_bytes + 1))
    if coding == "deflate":
        # The standard demands a zlib header, which some servers leave out.
        for bits in (zlib.MAX_WBITS, -zlib.MAX_WBITS):
            with suppress(zlib.error):
                inflating = zlib.decompressobj(bits)
                inflated = inflating.decompress(body, max_bytes + 1)
                if inflating.eof or len(inflated) > max_bytes:
                    return inflated
    return None


def _is_decoded(body: bytes) -> bool:
    if body.lstrip().startswith(DECODED_PREFIXES):
        return True
    with suppress(UnicodeDecodeError):
        return "\0" not in body.decode()
    return False
