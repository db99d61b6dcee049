"""Consent strings: the TCF's (2.2 and 2.3) and the Global Privacy Platform's, decoded.

Specifications: IAB Europe's Transparency and Consent String with Global Vendor List Format 2, and the IAB Tech Lab's
Global Privacy Platform String 1 with its sections for the US and California.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

# Longer strings are refused; one of every vendor has some 4,000 characters.
MAX_LENGTH = 16_384
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
BITS = {character: f"{place:06b}" for place, character in enumerate(ALPHABET)}
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Types of a TC string's segments, and of a restriction of a purpose.
DISCLOSED, ALLOWED, PUBLISHER = 1, 2, 3
REQUIRES_CONSENT = 1
# Sections of a GPP string.
GPP_TCF, GPP_US_PRIVACY, GPP_US, GPP_CALIFORNIA = 2, 6, 7, 8
MAX_SECTIONS = 100
# Fields of two bits at the start of these sections. Of those that end in OptOut, 1 says that the person opted out.
US_FIELDS = {
    GPP_US: (
        *("SharingNotice", "SaleOptOutNotice", "SharingOptOutNotice", "TargetedAdvertisingOptOutNotice"),
        *("SensitiveDataProcessingOptOutNotice", "SensitiveDataLimitUseNotice"),
        *("SaleOptOut", "SharingOptOut", "TargetedAdvertisingOptOut"),
    ),
    GPP_CALIFORNIA: (
        *("SaleOptOutNotice", "SharingOptOutNotice", "SensitiveDataLimitUseNotice", "SaleOptOut", "SharingOptOut"),
    ),
}
OPTED_OUT, GPC_SEGMENT = 1, 1
RUN = re.compile("1+")
US_PRIVACY = re.compile(r"1[YN-]{3}")


class ConsentError(ValueError):
    """A string is no consent string, or one of a version that is not known."""


@dataclass(frozen=True)
class Ids:
    """Ids of vendors, as ranges: few entries may hold many."""

    ranges: tuple[range, ...] = ()

    def __contains__(self, vendor: int) -> bool:
        return any(vendor in ids for ids in self.ranges)

    def __iter__(self) -> Iterator[int]:
        return (vendor for ids in self.ranges for vendor in ids)


@dataclass(frozen=True)
class Restriction:
    """What a publisher forbids some vendors for a purpose: 0 the purpose, 1 all but consent, 2 all but interest."""

    purpose: int
    kind: int
    vendors: Ids


@dataclass(frozen=True)
class TcString:
    """What a TC string says.

    Attributes:
        created: when the person was first asked.
        updated: when the string was last changed.
        policy: version of the TCF's policies.
        service_specific: it is of one service only.
        country: of the publisher, two letters.
        purposes: purposes that the person consents to.
        interests: purposes for which legitimate interest was told, and not objected to.
        vendors: vendors that the person consents to.
        interested: vendors whose legitimate interest was told, and not objected to.
        restrictions: of the publisher.
        disclosed: vendors that were disclosed to the person; None before 2.3, where a string need not say it.
    """

    created: datetime
    updated: datetime
    policy: int
    service_specific: bool
    country: str
    purposes: frozenset[int]
    interests: frozenset[int]
    vendors: Ids
    interested: Ids
    restrictions: tuple[Restriction, ...]
    disclosed: Ids | None

    def allows(self, vendor: int, purposes: Sequence[int]) -> bool:
        """Return whether the person consents to all purposes of a vendor, and the publisher does not forbid one."""
        forbidden = {
            restriction.purpose
            for restriction in self.restrictions
            if restriction.kind != REQUIRES_CONSENT and vendor in restriction.vendors
        }
        told = self.disclosed is None or vendor in self.disclosed
        return told and vendor in self.vendors and self.purposes >= set(purposes) and not forbidden & set(purposes)


class _Reader:
    """The bits of a segment, read from left to right."""

    def __init__(self, text: str) -> None:
        try:
            self._bits = "".join(BITS[character] for character in text)
        except KeyError:
            raise ConsentError("a consent string has a character that is not of base64url") from None
        self._at = 0

    def number(self, size: int) -> int:
        return int(self.bits(size), 2)

    def bits(self, size: int) -> str:
        bits = self._bits[self._at : self._at + size]
        if len(bits) < size:
            raise ConsentError("a consent string ends too early")
        self._at += size
        return bits

    def flag(self) -> bool:
        return self.number(1) == 1

    def places(self, size: int) -> list[int]:
        """Return the places of the bits that are set; the first is 1."""
        return [place for place, bit in enumerate(self.bits(size), 1) if bit == "1"]

    def letters(self) -> str:
        return "".join(chr(ord("A") + self.number(6)) for _ in range(2))

    def time(self) -> datetime:
        """Return a time that is given in tenths of a second since 1970."""
        return EPOCH + timedelta(milliseconds=100 * self.number(36))

    def fibonacci(self) -> int:
        """Return a number in Fibonacci coding: its last bit is followed by another that is set."""
        end = self._bits.find("11", self._at)
        if end < 0:
            raise ConsentError("a GPP string has a number without an end")
        word = self.bits(end + 2 - self._at)
        first, second, total = 1, 2, 0
        for bit in word[:-1]:
            total += first if bit == "1" else 0
            first, second = second, first + second
        return total

    def ranges(self) -> Ids:
        """Return ids that are listed, single or from one to another."""
        found = []
        for _ in range(self.number(12)):
            is_range, start = self.flag(), self.number(16)
            end = self.number(16) if is_range else start
            if not 0 < start <= end:
                raise ConsentError("a range of vendors ends before it starts")
            found.append(range(start, end + 1))
        return Ids(tuple(found))

    def vendors(self) -> Ids:
        """Return ids that are listed, or that are the places of bits."""
        highest, is_list = self.number(16), self.flag()
        if is_list:
            return self.ranges()
        runs = RUN.finditer(self.bits(highest))
        return Ids(tuple(range(run.start() + 1, run.end() + 1) for run in runs))


def tc_string(text: str) -> TcString:
    """Return what a TC string of version 2 says.

    Raises:
        ConsentError: it is none.
    """
    core, *segments = _split(text, ".")
    reader = _Reader(core)
    if reader.number(6) != 2:
        raise ConsentError("a TC string is of a version other than 2")
    created, updated = reader.time(), reader.time()
    reader.bits(12 + 12 + 6 + 12 + 12)  # the platform, its version and screen, the language, the vendors' list
    policy, service_specific = reader.number(6), reader.flag()
    reader.bits(1 + 12)  # stacks, special features
    purposes, interests = frozenset(reader.places(24)), frozenset(reader.places(24))
    reader.bits(1)  # how purpose 1 is treated
    country = reader.letters()
    vendors, interested = reader.vendors(), reader.vendors()
    restrictions = tuple(
        Restriction(reader.number(6), reader.number(2), reader.ranges()) for _ in range(reader.number(12))
    )
    disclosed = [_segment(segment) for segment in segments]
    return TcString(
        *(created, updated, policy, service_specific, country, purposes, interests, vendors, interested, restrictions),
        disclosed=next((ids for ids in disclosed if ids is not None), None),
    )


def _segment(text: str) -> Ids | None:
    """Return the vendors that a segment discloses; None of a segment of another kind."""
    reader = _Reader(text)
    kind = reader.number(3)
    if kind not in (DISCLOSED, ALLOWED, PUBLISHER):
        raise ConsentError("a TC string has a segment of an unknown kind")
    return reader.vendors() if kind == DISCLOSED else None


def gpp_sections(text: str) -> dict[int, str]:
    """Return the sections of a GPP string by their ids.

    Raises:
        ConsentError: it is none.
    """
    header, *sections = _split(text, "~")
    reader = _Reader(header)
    if (reader.number(6), reader.number(6)) != (3, 1):
        raise ConsentError("a GPP string is of a version other than 1")
    ids: list[int] = []
    for _ in range(reader.number(12)):
        is_range, last = reader.flag(), ids[-1] if ids else 0
        start = last + reader.fibonacci()
        end = start + reader.fibonacci() if is_range else start
        if end - start + len(ids) >= MAX_SECTIONS:
            raise ConsentError("a GPP string has too many sections")
        ids += range(start, end + 1)
    if len(ids) != len(sections):
        raise ConsentError("a GPP string has other sections than its header says")
    return dict(zip(ids, sections, strict=True))


def us_fields(section: int, text: str) -> dict[str, int]:
    """Return the notices and opt-outs of a section of the US or of California, and ``Gpc`` where it says that.

    Raises:
        ConsentError: it is none of version 1.
    """
    core, *segments = _split(text, ".")
    reader = _Reader(core)
    if reader.number(6) != 1:
        raise ConsentError("a section of the US is of a version other than 1")
    found = {name: reader.number(2) for name in US_FIELDS[section]}
    for other in map(_Reader, segments):
        if other.number(2) == GPC_SEGMENT:
            found["Gpc"] = other.number(1)
    return found


def us_privacy_opted_out(text: str) -> bool:
    """Return whether a US Privacy string says that the person has opted out of sale.

    Raises:
        ConsentError: it is none.
    """
    if not US_PRIVACY.fullmatch(text):
        raise ConsentError("a US Privacy string has a version of 1 and three of Y, N and -")
    return text[2] == "Y"


def _split(text: str, separator: str) -> list[str]:
    if len(text) > MAX_LENGTH:
        raise ConsentError(f"a consent string has over {MAX_LENGTH:,} characters")
    return text.split(separator)
