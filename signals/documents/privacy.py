"""Whether a person's data may be read and kept, by what is said with it. What cannot be read is no consent."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from signals.documents import consent
from signals.documents.consent import ConsentError

# Purpose 1 of the TCF: to store information on a device, or to access it there.
PURPOSES = (1,)


@dataclass(frozen=True)
class Signals:
    """What is said of a person's choices, as it is received; None where nothing is.

    Attributes:
        gdpr: 1 where the GDPR applies, 0 where it does not.
        tc_string: the TCF's consent string.
        gpp: the Global Privacy Platform's string.
        gpp_sid: ids of its sections that apply; all of its sections where none are named.
        us_privacy: a US Privacy string.
    """

    gdpr: Any = None
    tc_string: Any = None
    gpp: Any = None
    gpp_sid: Any = None
    us_privacy: Any = None


def consented(signals: Signals, vendor: int | None) -> bool | None:
    """Return whether all that applies to a person allows us to read and keep their data; None if nothing applies.

    Args:
        signals: what is said.
        vendor: our id in the Global Vendor List; without one, no TC string names us.
    """
    try:
        answers = list(_answers(signals, vendor))
    except (ConsentError, TypeError, ValueError, OverflowError):
        return False
    return all(answers) if answers else None


def request_consented(request: Mapping[str, Any], vendor: int | None) -> bool | None:
    """Return whether a bid request allows us to read and keep data of its person: see ``consented``."""
    try:
        return consented(_signals_of(request), vendor)
    except ConsentError:
        return False


def _signals_of(request: Mapping[str, Any]) -> Signals:
    """Return what a bid request of OpenRTB 2.6 says, or one of 2.5 in its extensions."""
    regs, user = _part(request, "regs"), _part(request, "user")
    regs, user = _part(regs, "ext") | regs, _part(user, "ext") | user
    return Signals(
        regs.get("gdpr"), user.get("consent"), *(regs.get(name) for name in ("gpp", "gpp_sid", "us_privacy"))
    )


def _answers(signals: Signals, vendor: int | None) -> Iterator[bool]:
    if signals.gdpr not in (None, 0) or (signals.tc_string and signals.gdpr != 0):
        yield _tcf(signals.tc_string, vendor)
    sections = consent.gpp_sections(_text(signals.gpp)) if signals.gpp else {}
    for section in _applicable(signals.gpp_sid, sections):
        yield _section(section, _text(sections.get(section)), vendor)
    if signals.us_privacy:
        yield not consent.us_privacy_opted_out(_text(signals.us_privacy))


def _applicable(named: Any, sections: Mapping[int, str]) -> Sequence[int]:
    """Return the sections that apply. An id that is not positive says that none does."""
    if named is None or named in ([], ""):
        return list(sections)
    ids = named.split(",") if isinstance(named, str) else named
    return [section for section in map(int, ids) if section > 0]


def _section(section: int, text: str, vendor: int | None) -> bool:
    if section == consent.GPP_TCF:
        return _tcf(text, vendor)
    if section == consent.GPP_US_PRIVACY:
        return not consent.us_privacy_opted_out(text)
    if section in consent.US_FIELDS:
        fields = consent.us_fields(section, text)
        choices = (value for name, value in fields.items() if name.endswith("OptOut") or name == "Gpc")
        return consent.OPTED_OUT not in choices
    raise ConsentError("a section of a GPP string is not known")


def _tcf(text: Any, vendor: int | None) -> bool:
    return vendor is not None and consent.tc_string(_text(text)).allows(vendor, PURPOSES)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ConsentError("a consent string is missing, or no string")
    return value


def _part(told: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return what an object in an object says, an empty one where there is none.

    Raises:
        ConsentError: it is something else.
    """
    part = told.get(name)
    if not isinstance(part, dict | None):
        raise ConsentError("what is said of a person's choices is no object")
    return {name: value for name, value in (part or {}).items() if value is not None}
