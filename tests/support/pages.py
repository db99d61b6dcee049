"""Pages as tests write and read them."""

from signals.documents.pages import Fetch, article

URL = "https://www.example.org/news/story.html?id=7#top"
STORY = (
    "The river rose above the old bridge on Tuesday, and the mayor asked everyone near the mill to leave their homes."
)


def page(head="", body=f"<p>{STORY}</p>" * 4, html="<html>"):
    return (
        f"<!DOCTYPE html>{html}<head><title>Flood at the mill</title>{head}</head>"
        f"<body><nav><a href='/'>Home</a></nav><article><h1>Flood at the mill</h1>{body}</article></body></html>"
    )


def read(body, url=URL, **said):
    return article(Fetch(url, body, **said))


def found(head="", url=URL, **parts):
    return read(page(head, **parts).encode(), url)
