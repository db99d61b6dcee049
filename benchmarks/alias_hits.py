"""How many bids find their page: real addresses, each asked for in the forms that browsers and bid requests show.

    python -m benchmarks.alias_hits ../shared/data

Every address of the data is stored once, as fetched. It is asked for as it was, with tracking parameters, as AMP and as
mobile. A hit is the right page; an answer with another page is wrong, as it must be for one of two addresses of the
data that differ only by form. "exact" is a store of canonical addresses without aliases.
"""

import argparse
import gzip
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

from resources.signal_store.look_up import look_up
from resources.signal_store.stores import LocalStore
from signals.documents.addresses import addresses
from signals.documents.urls import canonical_url

LINK = re.compile(rb"https?://[^\s\"'<>\\)\]}|`,;]{8,400}")
FILES = ("*.html.gz", "*.html", "*.json", "*.jsonl.gz", "*.jsonl")
ASSET = "js|css|png|jpe?g|gif|svg|ico|webp|woff2?|xml|mp4"
NOT_PAGES = re.compile(rf"\.(?:{ASSET})$|/(?:feed|rss|embed|wp-json)\b")
BATCH = 1_000


def _with(query: str) -> Callable[[str], str]:
    return lambda url: f"{url}{'&' if '?' in url else '?'}{query}"


def _on(label: str) -> Callable[[str], str]:
    def moved(url: str) -> str:
        host = urlsplit(url).netloc
        return url.replace(f"//{host}", f"//{label}.{host.removeprefix('www.')}", 1)

    return moved


def _amp_path(url: str) -> str:
    path, mark, query = url.partition("?")
    return f"{path.rstrip('/')}/amp/{mark}{query}"


def _amp_cache(url: str) -> str:
    host = urlsplit(url).netloc
    return f"https://{host.replace('-', '--').replace('.', '-')}.cdn.ampproject.org/c/s/{url.partition('://')[2]}"


FORMS: dict[str, Callable[[str], str]] = {
    "as it was": str,
    "utm_*": _with("utm_source=news&utm_medium=email&utm_campaign=x%20y"),
    "fbclid": _with("fbclid=IwAR0abc"),
    "gclid": _with("gclid=Cj0KCQ&gad_source=1"),
    "other scheme": lambda url: url.replace("https://", "http://") if url[4] == "s" else f"https{url[4:]}",
    "mobile host": _on("m"),
    "amp host": _on("amp"),
    "amp path": _amp_path,
    "amp parameter": _with("outputType=amp"),
    "amp cache": _amp_cache,
}


def real_addresses(data: Path) -> Iterator[str]:
    """Yield the addresses of pages in files of the data."""
    for pattern in FILES:
        for path in sorted(data.rglob(pattern)):
            content = path.read_bytes()
            content = gzip.decompress(content) if path.suffix == ".gz" else content
            for found in LINK.findall(content):
                url = found.decode("utf-8", "replace").replace("&amp;", "&").rstrip(".")
                parts = urlsplit(url.partition("#")[0])
                if "." in parts.netloc and len(parts.path) > 1 and not NOT_PAGES.search(parts.path.lower()):
                    yield parts.geturl()


def main() -> None:
    """Print the share of hits by form."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    pages = {canonical_url(url): url for url in real_addresses(parser.parse_args().data)}
    now = datetime.now(UTC)
    told = {"tenant_id": "t", "fetched_at": now, "expires_at": now + timedelta(days=1), "risk": "none", "topics": []}
    with tempfile.TemporaryDirectory() as folder, closing(LocalStore(Path(folder))) as store:
        store.put(told | {"url": url, "document_id": own} for own, url in pages.items())
        sites = len({urlsplit(url).netloc for url in pages})
        print(f"{len(pages):,} addresses of {sites:,} hosts, {sum('?' in url for url in pages):,} with a query")
        shared = Counter(addresses(url)[-1] for url in pages)
        print(f"{sum(shared[addresses(url)[-1]] > 1 for url in pages):,} differ from another only by form")
        print(f"{'form':<16}{'hits':>9}{'wrong':>9}{'exact':>9}")
        for name, form in FORMS.items():
            own, asked = list(pages), [form(url) for url in pages.values()]
            answers = [
                answer
                for start in range(0, len(asked), BATCH)
                for answer in look_up(store, "t", asked[start : start + BATCH], now)
            ]
            held = [one.document_id if one.status == "current" else None for one in answers]
            hits = sum(found == of for found, of in zip(held, own, strict=True))
            wrong = sum(found not in {None, of} for found, of in zip(held, own, strict=True))
            exact = sum(canonical_url(url) == of for url, of in zip(asked, own, strict=True))
            print(f"{name:<16}{hits / len(own):>9.2%}{wrong / len(own):>9.2%}{exact / len(own):>9.2%}")


if __name__ == "__main__":
    main()
