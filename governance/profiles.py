"""Suitability profiles: what an advertiser wants to stand beside, as data, and the verdict on a page."""

from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from signals.documents.domains import domain
from signals.documents.languages import LANGUAGES
from signals.risks import LEVELS, NO_RISK, UNKNOWN
from signals.tasks import TASKS
from signals.taxonomies import lineage, nodes

CATEGORIES = frozenset(label for task in TASKS.values() for label, level in task.risk.items() if level != NO_RISK)
Rule = Literal[
    "site_refused",
    "site_not_allowed",
    "page_unknown",
    "language_unknown",
    "language_not_accepted",
    "topic_refused",
    "no_wanted_topic",
    "risk_unknown",
    "risk_too_high",
    "keyword_refused",
]
# What a verdict reads of a consumer record.
READS = ("site", "language", "topics", "risks", "risk", "image_threat", "image_threat_risk", "keywords")
# Rules by which a page is refused of which too little is known.
OF_IGNORANCE = ("page_unknown", "language_unknown", "risk_unknown")


class ProfileError(ValueError):
    """A profile cannot be read."""


def _among(known: Any, what: str) -> AfterValidator:
    def checked(value: str) -> str:
        if value not in known:
            raise ValueError(f"{value!r} is no {what}")
        return value

    return AfterValidator(checked)


def _domain(value: str) -> str:
    if (found := domain(value)) is None:
        raise ValueError(f"{value!r} is no domain")
    return found


def _words(value: str) -> str:
    if not value.split():
        raise ValueError("a keyword has a word")
    return " ".join(value.casefold().split())


Topic = Annotated[str, _among(nodes(), "topic of Content Taxonomy 3.1")]
Category = Annotated[str, _among(CATEGORIES, f"risk; there are {', '.join(sorted(CATEGORIES))}")]
Level = Annotated[str, _among([level for level in LEVELS if level != UNKNOWN], "level of risk")]
Language = Annotated[str, _among(LANGUAGES, "language of ISO 639-1")]
Site = Annotated[str, AfterValidator(_domain)]
Keyword = Annotated[str, AfterValidator(_words)]


class _Part(BaseModel):
    """Part of a profile; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Topics(_Part):
    """Topics by unique id; one covers all below it. Where some are wanted, a page needs one of them."""

    wanted: frozenset[Topic] = frozenset()
    refused: frozenset[Topic] = frozenset()


class Sites(_Part):
    """Domains; one covers its subdomains. Where some are allowed, others are not."""

    allowed: frozenset[Site] = frozenset()
    refused: frozenset[Site] = frozenset()


class Profile(_Part):
    """The rules of one advertiser. What refuses goes before what wants or allows.

    Attributes:
        says: what the profile is for.
        topics: see ``Topics``.
        sites: see ``Sites``.
        risk: highest level that is accepted of a risk.
        risks: the same of some risks.
        keywords_refused: words that no keyword of the page has in a row.
        languages: ISO 639-1; all where none is named.
        unknown: the answer where a page, its risk or its language is not known.
    """

    says: str
    topics: Topics = Topics()
    sites: Sites = Sites()
    risk: Level = NO_RISK
    risks: Mapping[Category, Level] = Field(default_factory=dict)
    keywords_refused: frozenset[Keyword] = frozenset()
    languages: frozenset[Language] = frozenset()
    unknown: Literal["allow", "refuse"] = "refuse"

    @property
    def digest(self) -> str:
        """Name of what the profile says: the first 16 digits of a SHA-256."""
        return sha256(repr(_ordered(self.model_dump())).encode()).hexdigest()[:16]


class Reason(_Part):
    """A rule by which a page is refused, and what broke it."""

    rule: Rule
    what: str


class Verdict(_Part):
    """Whether a page suits a profile, and all that speaks against it."""

    allowed: bool
    reasons: tuple[Reason, ...]


def read_profile(text: str) -> Profile:
    """Return the profile that a YAML text says.

    Raises:
        ProfileError: one line that says what is wrong.
    """
    try:
        return Profile.model_validate(yaml.safe_load(text))
    except ValidationError as error:
        faults = (
            f"{'.'.join(map(str, e['loc'])) or 'profile'}: {e['msg'].removeprefix('Value error, ')}"
            for e in error.errors()
        )
        raise ProfileError("; ".join(faults)) from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ProfileError(f"no YAML: {str(error).splitlines()[0]}") from None


def judge(profile: Profile, record: Mapping[str, Any] | None, site: str | None = None) -> Verdict:
    """Return whether a page suits a profile.

    Args:
        profile: the rules.
        record: the consumer record of the page; None where nothing is known of it.
        site: the domain of the page, where the record says none.
    """
    site = (record or {}).get("site") or site
    reasons = [*_of_site(profile.sites, site or ""), *(_of_page(profile, record) if record else _of_nothing())]
    if profile.unknown == "allow":
        reasons = [reason for reason in reasons if reason.rule not in OF_IGNORANCE]
    return Verdict(allowed=not reasons, reasons=tuple(reasons))


def _of_nothing() -> Iterator[Reason]:
    yield Reason(rule="page_unknown", what="nothing is known of the page")


def _of_site(sites: Sites, site: str) -> Iterator[Reason]:
    labels = site.split(".")
    names = {".".join(labels[place:]) for place in range(len(labels))}
    if names & sites.refused:
        yield Reason(rule="site_refused", what=site)
    if sites.allowed and not names & sites.allowed:
        yield Reason(rule="site_not_allowed", what=site or "the site is not known")


def _of_page(profile: Profile, record: Mapping[str, Any]) -> Iterator[Reason]:
    language = record.get("language") or ""
    if profile.languages and not language:
        yield Reason(rule="language_unknown", what="the language of the page is not known")
    elif profile.languages and language not in profile.languages:
        yield Reason(rule="language_not_accepted", what=language)
    yield from _of_topics(profile.topics, [topic["id"] for topic in record.get("topics") or ()])
    yield from _of_risks(profile, record)
    phrases = [f" {phrase.casefold()} " for phrase in record.get("keywords") or ()]
    for keyword in sorted(profile.keywords_refused):
        if any(f" {keyword} " in phrase for phrase in phrases):
            yield Reason(rule="keyword_refused", what=keyword)


def _of_topics(topics: Topics, found: Sequence[str]) -> Iterator[Reason]:
    covered = {topic: {*lineage(topic)} for topic in found}
    for topic, above in covered.items():
        if above & topics.refused:
            yield Reason(rule="topic_refused", what=topic)
    if topics.wanted and not any(above & topics.wanted for above in covered.values()):
        yield Reason(rule="no_wanted_topic", what=", ".join(found) or "the page has no topic")


def _of_risks(profile: Profile, record: Mapping[str, Any]) -> Iterator[Reason]:
    for category, level in _levels(record):
        accepted = profile.risks.get(category, profile.risk)
        if level == UNKNOWN or level not in LEVELS:
            yield Reason(rule="risk_unknown", what=f"{category}: unknown")
        elif LEVELS.index(level) > LEVELS.index(accepted):
            yield Reason(rule="risk_too_high", what=f"{category}: {level}, accepted up to {accepted}")


def _levels(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the risks of text and pictures, and the worst of all, ``any``, where none of them has its level."""
    found = [(risk["category"], risk["level"]) for risk in record.get("risks") or ()]
    if record.get("image_threat_risk") not in (None, UNKNOWN):
        found.append((record["image_threat"], record["image_threat_risk"]))
    worst = record.get("risk") or UNKNOWN
    return found if worst in {level for _, level in found} else [*found, ("any", worst)]


def _ordered(value: Any) -> Any:
    """Return a value whose representation does not depend on the order of sets and keys."""
    if isinstance(value, Mapping):
        return sorted((name, _ordered(inner)) for name, inner in value.items())
    return sorted(value) if isinstance(value, frozenset) else value
