"""Removal of secrets from every text that is shown or stored."""

import re
from collections.abc import Iterator
from urllib.parse import unquote

from pydantic import SecretStr

from resources.settings import ADDRESSES, Settings, loaded_settings

HIDDEN = "***"
# A shorter secret would also match in unrelated words.
MIN_SECRET_LENGTH = 4
# The user:password@ of an address.
USERINFO = re.compile(r"(?<=://)[^\s/?#'\"]*@")
PARAMETER = re.compile(r"(?<=[?&])([\w.-]*(?:pass|pwd|secret|token|key|sig)[\w.-]*=)[^&\s'\"]+", re.IGNORECASE)


def redacted(text: str) -> str:
    """Return text without the secrets of this process's settings, and without credentials in any address."""
    settings = loaded_settings()
    secrets = set(_secrets(settings)) if settings else set()
    for secret in sorted((s for s in secrets if len(s) >= MIN_SECRET_LENGTH), key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return PARAMETER.sub(rf"\1{HIDDEN}", USERINFO.sub(f"{HIDDEN}@", text))


def _secrets(settings: Settings) -> Iterator[str]:
    for name, value in settings:
        secret = value.get_secret_value() if isinstance(value, SecretStr) else ""
        if name not in ADDRESSES:
            yield secret
        elif "://" in secret:
            userinfo = secret.partition("://")[2].rpartition("@")[0]
            password = userinfo.partition(":")[2] or userinfo
            yield from (userinfo, password, unquote(password))
            yield from (parameter[0].rpartition("=")[2] for parameter in re.finditer(PARAMETER, secret))
