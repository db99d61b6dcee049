"""The one place in which secrets are taken out of what is shown or kept."""

import re
from collections.abc import Iterator
from urllib.parse import unquote

from pydantic import SecretStr

from resources.settings import PLACES, Settings, known_settings

HIDDEN = "***"
# A shorter one would be found in words that have nothing to do with it.
SHORTEST = 4
# The user:password@ of an address.
USERINFO = re.compile(r"(?<=://)[^\s/?#'\"]*@")
PARAMETER = re.compile(r"(?<=[?&])([\w.-]*(?:pass|pwd|secret|token|key|sig)[\w.-]*=)[^&\s'\"]+", re.IGNORECASE)


def redacted(text: str) -> str:
    """Return text without the secrets of this process's settings, and without what grants access in any address."""
    settings = known_settings()
    secrets = {one for one in _secrets(settings) if len(one) >= SHORTEST} if settings else set()
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return PARAMETER.sub(rf"\1{HIDDEN}", USERINFO.sub(f"{HIDDEN}@", text))


def _secrets(settings: Settings) -> Iterator[str]:
    for name, value in settings:
        given = value.get_secret_value() if isinstance(value, SecretStr) else ""
        if name not in PLACES:
            yield given
        elif "://" in given:
            userinfo = given.partition("://")[2].rpartition("@")[0]
            password = userinfo.partition(":")[2] or userinfo
            yield from (userinfo, password, unquote(password))
            yield from (found[0].rpartition("=")[2] for found in re.finditer(PARAMETER, given))
