"""Who may sell a site's inventory: ads.txt and sellers.json, and whether they allow an offer.

Both are standards of the IAB Tech Lab: ads.txt 1.1, in which a site lists its sellers, and sellers.json 1.0, in which
an exchange lists its accounts.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from signals.documents.domains import domain, domains_of, trimmed

Fields = dict[str, Any]

RELATIONSHIPS = ("DIRECT", "RESELLER")
SELLER_TYPES = ("PUBLISHER", "INTERMEDIARY", "BOTH")
BOM = b"\xef\xbb\xbf"
VARIABLE = re.compile(r"([A-Za-z]+)\s*=(.*)", re.DOTALL)
# A tag, or the beginning of one: the addresses that people put between such brackets have an @.
MARKUP = re.compile(r"\s*<|.*</?[a-z][a-z0-9]*(\s[^<>]*)?/?>", re.IGNORECASE | re.DOTALL)
FLAGS = {0: False, 1: True, "0": False, "1": True}
SHOWN = 500


class DeclarationError(ValueError):
    """A line or a seller breaks the rule that the message names."""


@dataclass(frozen=True)
class Declared:
    """One declaration of a file.

    Attributes:
        line: line of an ads.txt, or number of the seller in a sellers.json, from 1.
        fields: what it says; ``record`` is ``seller``, ``variable``, or ``end``, which says how many sellers the file
            has and comes last of a file that was read to its end. None if it breaks a rule.
        broken: the rule that it breaks.
        raw: the beginning of what breaks it.
    """

    line: int
    fields: Fields | None = None
    broken: str | None = None
    raw: str | None = None


def ads_txt(body: bytes) -> Iterator[Declared]:
    """Read an ads.txt; a line that is blank or only a comment declares nothing, and nor does a web page.

    A seller has ``exchange`` (a domain), ``seller_id``, ``relationship``, ``certification_authority_id`` and, in
    ``other``, whatever follows. A variable has its name in upper case and its value.
    """
    sellers, lines = 0, body.removeprefix(BOM).splitlines()
    # Many servers answer with a page of theirs where there is no file, and one may show how a file looks.
    if tag := next((number for number, line in enumerate(lines, 1) if _is_markup(line)), None):
        yield Declared(tag, None, "web_page", body[:SHOWN].decode("utf-8", "replace"))
        yield Declared(len(lines) + 1, {"record": "end", "sellers": 0})
        return
    for number, line in enumerate(lines, 1):
        try:
            fields = _line(line.partition(b"#")[0])
        except DeclarationError as error:
            yield Declared(number, None, str(error), line[:SHOWN].decode("utf-8", "replace"))
            continue
        if fields:
            sellers += fields["record"] == "seller"
            yield Declared(number, fields)
    yield Declared(len(lines) + 1, {"record": "end", "sellers": sellers})


def sellers_json(body: bytes) -> Iterator[Declared]:
    """Read a sellers.json; fields that have no column, or no value that it may have, are kept in ``other``."""
    try:
        found = json.loads(body, parse_constant=str)
    except (ValueError, RecursionError):
        yield Declared(1, None, "not_json", body[:SHOWN].decode("utf-8", "replace"))
        return
    listed, sellers = found.get("sellers") if isinstance(found, dict) else None, 0
    if not isinstance(listed, list):
        yield Declared(1, None, "no_sellers", _shown(found))
        return
    for number, one in enumerate(listed, 1):
        try:
            yield Declared(number, _seller(one))
        except DeclarationError as error:
            yield Declared(number, None, str(error), _shown(one))
        else:
            sellers += 1
    other = {name: value for name, value in found.items() if name != "sellers"}
    yield Declared(len(listed) + 1, {"record": "end", "sellers": sellers, "other": other or None})


def _is_markup(line: bytes) -> bool:
    said = trimmed(line.partition(b"#")[0].decode("utf-8", "replace"))
    return "<" in said and not VARIABLE.fullmatch(said) and MARKUP.match(said) is not None


def _line(line: bytes) -> Fields | None:
    try:
        said = trimmed(line.decode("utf-8"))
    except UnicodeDecodeError:
        raise DeclarationError("not_utf8") from None
    if not said:
        return None
    if variable := VARIABLE.fullmatch(said):
        name, value = variable[1].upper(), trimmed(variable[2])
        if not value:
            raise DeclarationError("null:value")
        return {"record": "variable", "variable": name, "value": value}
    declared, _, extension = said.partition(";")
    parts = [trimmed(part) for part in declared.split(",", 4)]
    if len(parts) < 3:
        raise DeclarationError("too_few_fields")
    exchange, seller_id, relationship = domain(parts[0]), parts[1], parts[2].upper()
    if exchange is None:
        raise DeclarationError("not_a_domain:exchange")
    if not seller_id:
        raise DeclarationError("null:seller_id")
    if relationship not in RELATIONSHIPS:
        raise DeclarationError("unknown:relationship")
    return {
        "record": "seller",
        "exchange": exchange,
        "seller_id": seller_id,
        "relationship": relationship,
        "certification_authority_id": parts[3] or None if len(parts) > 3 else None,
        "other": trimmed(";".join(part for part in (*parts[4:], extension) if part)) or None,
    }


def _seller(found: Any) -> Fields:
    if not isinstance(found, dict):
        raise DeclarationError("not_an_object")
    given, kind, named, of = (found.get(name) for name in ("seller_id", "seller_type", "name", "domain"))
    # The standard wants a string; some write a number.
    seller_id = trimmed(str(given)) if isinstance(given, int | str) and not isinstance(given, bool) else ""
    if not seller_id:
        raise DeclarationError("null:seller_id")
    if not kind:
        raise DeclarationError("null:seller_type")
    if not isinstance(kind, str) or trimmed(kind).upper() not in SELLER_TYPES:
        raise DeclarationError("unknown:seller_type")
    read = {
        "seller_id": seller_id,
        "seller_type": trimmed(kind).upper(),
        "name": named if isinstance(named, str) else None,
        "domain": domain(of) if isinstance(of, str) else None,
        "is_confidential": _flag(found.get("is_confidential")),
        "is_passthrough": _flag(found.get("is_passthrough")),
    }
    other = {name: value for name, value in found.items() if value is not None and read.get(name) is None}
    return {"record": "seller", **read, "other": other or None}


def _flag(value: Any) -> bool | None:
    return FLAGS.get(value) if isinstance(value, int | str) else None


def _shown(value: object) -> str:
    try:
        return json.dumps(value, ensure_ascii=False)[:SHOWN]
    except RecursionError:
        return "nested too deep to show"


@dataclass
class AdsTxt:
    """What a site declares.

    Attributes:
        sellers: relationships by exchange and seller id.
        owner: domain of who owns it, of which there is one.
        managers: domains of who sells for it, of which there is one a country, and one for all others (a blank).
        subdomains: those that have a file of their own.
    """

    sellers: dict[tuple[str, str], set[str]] = field(default_factory=dict)
    owner: str | None = None
    managers: dict[str, str] = field(default_factory=dict)
    subdomains: set[str] = field(default_factory=set)


@dataclass
class SupplyChain:
    """What is declared: the ads.txt of sites, and of exchanges each seller's domain (None where none is told)."""

    sites: dict[str, AdsTxt] = field(default_factory=dict)
    exchanges: dict[str, dict[str, str | None]] = field(default_factory=dict)


def supply_chain(declarations: pl.DataFrame) -> SupplyChain:
    """Put declarations in order, as ``authorised`` needs them.

    Of each file the newest version that was read to its end counts, and it alone. A file that names no seller counts
    as none: a site that allows nobody says so with a placeholder, and what is empty may be a fault of its server.

    Args:
        declarations: rows of bronze/seller_declarations; sellers that nobody asks about may be left out.
    """
    ends = declarations.filter(record="end").sort("fetched_at", "received_at")
    newest = ends.unique(["document", "declared_by"], keep="last").filter(pl.col("sellers") > 0)
    known = SupplyChain()
    for document, whose in newest.select("document", "declared_by").rows():
        if document == "ads.txt":
            known.sites[whose] = AdsTxt()
        else:
            known.exchanges[whose] = {}
    current = declarations.join(newest, on=["source", "fetched_at", "document", "declared_by"], how="semi")
    for row in current.filter(pl.col("record") != "end").sort("line").iter_rows(named=True):
        _add(known, row)
    return known


def _add(known: SupplyChain, row: Mapping[str, Any]) -> None:
    if row["document"] == "sellers.json":
        known.exchanges[row["declared_by"]][row["seller_id"]] = row["domain"]
        return
    site = known.sites[row["declared_by"]]
    if row["record"] == "seller":
        site.sellers.setdefault((row["exchange"], row["seller_id"]), set()).add(row["relationship"])
        return
    value, _, country = row["value"].partition(",")
    named = domain(value)
    if named is None:
        return
    # Of what there may be one of, the first line counts.
    if row["variable"] == "OWNERDOMAIN":
        site.owner = site.owner or named
    elif row["variable"] == "MANAGERDOMAIN":
        site.managers.setdefault(trimmed(country).upper(), named)
    elif row["variable"] == "SUBDOMAIN":
        site.subdomains.add(named)


def authorised(site: str | None, exchange: str | None, seller_id: str | None, known: SupplyChain) -> tuple[str, str]:
    """Say whether a seller may sell a site's inventory.

    ads.txt 1.1: the file of the site's root domain decides, or that of a subdomain which the root's names as
    SUBDOMAIN; the exchange's domain and the seller id must be on a line of it, as DIRECT or as RESELLER. sellers.json
    1.0: where the exchange's is known, the seller id must be in it. A DIRECT seller, which is the account of the
    publisher or of who manages its inventory, must be of the domain of the site, of the OWNERDOMAIN or of a
    MANAGERDOMAIN, if its domain is told.

    The root is one label longer than a public suffix. Where its file is not known, the shortest domain of the site's
    whose file is known takes its place.

    Args:
        site: host of the page.
        exchange: domain of the exchange that offers it.
        seller_id: account there, as in OpenRTB's ``publisher.id``; its case counts.
        known: what is declared.

    Returns:
        ``authorised`` with ``direct`` or ``reseller``; ``unauthorised`` with ``not_in_ads_txt``,
        ``not_in_sellers_json`` or ``other_domain``; ``unknown`` with ``no_seller`` or ``no_ads_txt``.
    """
    through, account = domain(exchange), trimmed(seller_id or "")
    if through is None or not account:
        return "unknown", "no_seller"
    files = [part for part in domains_of(site or "") if part in known.sites]
    if not files:
        return "unknown", "no_ads_txt"
    own = [part for part in files[1:] if part in known.sites[files[0]].subdomains]
    decides = own[-1] if own else files[0]
    relationships = known.sites[decides].sellers.get((through, account))
    if not relationships:
        return "unauthorised", "not_in_ads_txt"
    accounts = known.exchanges.get(through)
    if accounts is not None and account not in accounts:
        return "unauthorised", "not_in_sellers_json"
    of, file = None if accounts is None else accounts[account], known.sites[decides]
    if "DIRECT" in relationships and of in {None, *domains_of(site or ""), file.owner, *file.managers.values()}:
        return "authorised", "direct"
    return ("authorised", "reseller") if "RESELLER" in relationships else ("unauthorised", "other_domain")


def asked(declarations: pl.LazyFrame, rows: pl.DataFrame) -> pl.LazyFrame:
    """Return of all declarations those that ``with_authorisation`` needs for some rows."""
    ids = rows["seller_id"].drop_nulls().unique().map_elements(trimmed, return_dtype=pl.String)
    return declarations.filter((pl.col("record") != "seller") | pl.col("seller_id").is_in(ids.implode()))


def with_authorisation(rows: pl.DataFrame, declarations: pl.DataFrame) -> pl.DataFrame:
    """Return rows with ``authorisation`` and ``authorisation_reason``, as ``authorised`` says.

    Args:
        rows: with ``site``, ``exchange`` and ``seller_id``.
        declarations: rows of bronze/seller_declarations.
    """
    known, by = supply_chain(declarations), ["site", "exchange", "seller_id"]
    offers = rows.select(by).unique()
    said = pl.DataFrame(
        [authorised(*offer, known) for offer in offers.rows()],
        schema={"authorisation": pl.String, "authorisation_reason": pl.String},
        orient="row",
    )
    told = pl.concat([offers, said], how="horizontal")
    return rows.join(told, on=by, how="left", nulls_equal=True, maintain_order="left")
