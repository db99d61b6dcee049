"""Domains as advertising compares them, and which of a host's is its root: one label longer than a public suffix.

Apart from ``urls``, since a newer list of suffixes must not change the identity of the transformation.
"""

import re
from functools import lru_cache
from typing import Any

ADDRESS = re.compile(r"(?:https?://)?(?:www\.)?([\w-]+(?:\.[\w-]+)+)\.?(?:[:/?].*)?", re.DOTALL)
# What editors and web pages leave behind, and nobody sees.
INVISIBLE = dict.fromkeys(map(ord, "\0\u200b\u2060\ufeff"))


def domain(text: str | None) -> str | None:
    """Return a domain in the form in which two are compared: lower case, without ``www.``; None if it is none."""
    address = ADDRESS.fullmatch(trimmed(text or "").lower())
    return address and address[1]


def trimmed(text: str) -> str:
    """Return text without what nobody sees, and without white space around it."""
    return text.translate(INVISIBLE).strip()


@lru_cache(maxsize=4096)
def domains_of(host: str) -> list[str]:
    """Return the domains that a host lies in: its root first, which is no public suffix, itself last."""
    name = domain(host)
    if name is None:
        return []
    labels, extracted = name.split("."), _packaged_suffixes()(name)
    if extracted.ipv4:
        return [name]
    # What the list does not know is under a suffix of one label.
    root = extracted.suffix.count(".") + 2
    return [".".join(labels[-size:]) for size in range(min(root, len(labels)), len(labels) + 1)]


@lru_cache(maxsize=1)
def _packaged_suffixes() -> Any:
    """Return the public suffix list that is packaged: nothing is fetched, and nothing is kept."""
    from tldextract import TLDExtract

    return TLDExtract(suffix_list_urls=(), cache_dir=None, include_psl_private_domains=True)
