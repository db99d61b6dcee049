"""A bid request with what is known of its page or site: OpenRTB 2.6, or 2.5. What it says itself stays as written.

``docs/openrtb.md`` says what is written where.
"""

from collections.abc import Mapping
from typing import Any

from signals.documents.json_text import Edit, edited, members, parsed, with_items, with_members
from signals.documents.openrtb import NotOpenRtbError, impressions, list_of, object_of
from signals.risks import UNKNOWN
from signals.taxonomies import CATTAX, categories

PLACES = ("site", "app")
# The name of our data, and the taxonomies of its segments; those from 500 on are vendors' own.
PROVIDER = "seamless"
TOPIC_SEGTAX, RISK_SEGTAX, SENTIMENT_SEGTAX = (CATTAX, 7), 650, 651
# The segment whose value is the worst of all risks.
ANY_RISK = "any"
# What the ext of data says that is known of the site alone.
OF_SITE = {"known_of": "site"}


class BidRequest:
    """A bid request: its text, and what it says."""

    def __init__(self, text: str) -> None:
        """Read a request.

        Raises:
            NotOpenRtbError: it is no bid request.
        """
        try:
            request = parsed(text)
        except ValueError:
            raise NotOpenRtbError("openrtb_malformed") from None
        impressions(request)
        self.text = text
        found = [(name, *_parts(request[name])) for name in PLACES if request.get(name) is not None]
        self._name, self._place, self._content, self._data = next(iter(found), ("", {}, {}, []))

    @property
    def url(self) -> str | None:
        """Address of the page or content beside which its impressions are shown; None where none is stated."""
        stated = self._place.get("page") or self._content.get("url")
        return stated if isinstance(stated, str) and stated else None

    def enriched(self, record: Mapping[str, Any], cattax: int = CATTAX, *, pagecat: bool = False) -> str:
        """Return the text of the request with what is known of its page.

        Args:
            record: the consumer record of the page.
            cattax: version of the content taxonomy of ``cat`` and ``pagecat``, one of ``taxonomies.COLUMNS``.
            pagecat: whether to fill the site's or app's ``pagecat`` too.
        """
        found = categories((topic["id"] for topic in record.get("topics") or ()), cattax)
        of_place = _categories(self._place, "pagecat", found, cattax) if pagecat else {}
        return self._filled(of_place, _of_content(self._content, record, found, cattax), data_of(record, cattax))

    def enriched_by_site(self, known: Mapping[str, Any], cattax: int = CATTAX) -> str:
        """Return the text of the request with what is known of its site: data that says so, and nothing else.

        Args:
            known: the site's ``risk``, and ``topics`` with their share.
            cattax: see ``enriched``.
        """
        topics = [{"id": topic["id"], "score": topic["share"]} for topic in known.get("topics") or ()]
        data = data_of({"topics": topics, "risk": known.get("risk")}, cattax)
        return self._filled({}, {}, [entry | {"ext": entry["ext"] | OF_SITE} for entry in data])

    def _filled(self, of_place: dict[str, Any], of_content: dict[str, Any], data: list[dict[str, Any]]) -> str:
        """Return the text with members for the place and its content, and with the data that are not there yet."""
        new = [entry for entry in data if not any(_same(entry, one) for one in self._data)]
        return edited(self.text, self._edits(of_place, of_content, new))

    def _edits(self, of_place: dict[str, Any], of_content: dict[str, Any], data: list[Any]) -> list[Edit]:
        """Return the edits that add members to the place and its content, and items to the data of that."""
        if not self._name:
            return []
        place = members(self.text, self.text.index("{"))[self._name][0]
        if "data" not in self._content:
            of_content |= {"data": data} if data else {}
        if "content" not in self._place:
            return [with_members(self.text, place, of_place | ({"content": of_content} if of_content else {}))]
        edits = [with_members(self.text, place, of_place)]
        if self._place["content"] is not None:
            content = members(self.text, place)["content"][0]
            edits.append(with_members(self.text, content, of_content))
            if self._content.get("data") is not None:
                end = members(self.text, content)["data"][1]
                edits.append(with_items(self.text, end, data, empty=not self._data))
        return edits


def data_of(record: Mapping[str, Any], cattax: int) -> list[dict[str, Any]]:
    """Return a record's topics, risks and sentiment as data objects of OpenRTB."""
    segtax = cattax if cattax in TOPIC_SEGTAX else CATTAX
    topics: dict[str, str] = {}
    for topic in record.get("topics") or ():
        for category in categories([topic["id"]], segtax):
            topics.setdefault(category, _score(topic["score"]))
    risks = {ANY_RISK: record.get("risk") or UNKNOWN}
    risks |= {risk["category"]: risk["level"] for risk in record.get("risks") or ()}
    sentiment = {record["sentiment"]: _score(record["sentiment_score"])} if record.get("sentiment") else {}
    return [
        {
            "name": PROVIDER,
            "segment": [{"id": name, "value": value} for name, value in segments.items()],
            "ext": {"segtax": taxonomy},
        }
        for taxonomy, segments in ((segtax, topics), (RISK_SEGTAX, risks), (SENTIMENT_SEGTAX, sentiment))
        if segments
    ]


def _parts(place: Any) -> tuple[dict[str, Any], dict[str, Any], list[Any]]:
    """Return what a site or app says, what its content says, and the data of that."""
    content = object_of(object_of(place).get("content"))
    return place, content, list_of(content.get("data"))


def _of_content(content: Mapping[str, Any], record: Mapping[str, Any], found: list[str], cattax: int) -> dict[str, Any]:
    """Return the members, but ``data``, that content lacks; none where it is of another taxonomy."""
    if _stated(content, cattax) != cattax:
        return {}
    values = _categories(content, "cat", found, cattax)
    if record.get("language") and not content.keys() & {"language", "langb"}:
        values["language"] = record["language"]
    if record.get("keywords") and not content.keys() & {"keywords", "kwarray"}:
        values["keywords"] = ",".join(record["keywords"])
    return values


def _categories(existing: Mapping[str, Any], name: str, found: list[str], cattax: int) -> dict[str, Any]:
    """Return the categories that an object lacks, with their taxonomy where it states none."""
    if not found or name in existing or _stated(existing, cattax) != cattax:
        return {}
    return {name: found} | ({} if "cattax" in existing else {"cattax": cattax})


def _stated(existing: Mapping[str, Any], cattax: int) -> Any:
    """Return the taxonomy of an object's categories: 1.0 where it has some and says nothing else."""
    return existing.get("cattax", 1 if existing.keys() & {"cat", "sectioncat", "pagecat"} else cattax)


def _same(entry: Mapping[str, Any], existing: Any) -> bool:
    """Return whether data that is existing is ours already."""
    return isinstance(existing, dict) and (existing.get("name"), existing.get("ext")) == (entry["name"], entry["ext"])


def _score(score: float) -> str:
    return f"{score:.3f}"
