"""HTML pages that run only their own scripts, and fetch nothing.

Jinja's autoescape escapes text from tables. The content security policy is the second line of defence.
"""

import base64
import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from markupsafe import Markup

# Inline styles: some are on elements, which no hash can allow. Pictures are drawn in the page itself.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'; form-action 'none'"


def html_page(title: str, body: "Markup", style: str, scripts: Sequence[str] = ()) -> str:
    """Return a self-contained page.

    Args:
        title: plain text.
        body: HTML in which all text is escaped.
        style: CSS.
        scripts: JavaScript that runs after the body is loaded; no other script runs.
    """
    from markupsafe import Markup, escape

    hashes = " ".join(f"'sha256-{_hash(script)}'" for script in scripts) or "'none'"
    run = "".join(f"<script>{script}</script>\n" for script in scripts)
    head = Markup(  # noqa: S704 - all of it is escaped, or ours
        "<!DOCTYPE html>\n"
        '<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}; script-src {hashes}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        '<meta name="referrer" content="no-referrer">\n'
        f"<title>{escape(title)}</title>\n<style>\n{style}\n</style>\n</head>\n<body>\n"
    )
    return f"{head}{body}\n{run}</body>\n</html>\n"


def _hash(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
