"""Who asks on the command line: whom the key in the environment names, or else the owner of the machine."""

from datetime import datetime

from governance.access import Identity
from resources.api_keys import api_keys
from resources.settings import Settings

# Whoever starts a process here can read its files: a key says who it is, and takes rights away.
OWNER = Identity("the owner of this machine", "engineer", None)


class UnknownKeyError(PermissionError):
    """The key is unknown, revoked or expired."""


def identity(settings: Settings, now: datetime) -> Identity:
    """Return who asks.

    Raises:
        UnknownKeyError: the key in the environment is no key, or is none any more.
        ApiKeysError: the keys cannot be read.
    """
    if settings.seamless_key is None:
        return OWNER
    key = api_keys(settings).find(settings.seamless_key.get_secret_value(), now)
    if key is None:
        raise UnknownKeyError("the key in SEAMLESS_KEY is unknown, revoked or expired")
    return Identity(f"key {key.id}", key.role, key.tenant)
