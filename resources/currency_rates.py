"""An installation's file of exchange rates."""

from functools import lru_cache
from pathlib import Path

from resources.settings import Settings, SettingsError
from signals.documents.currency import Rates, RatesError, rates


def currency_rates(settings: Settings) -> Rates:
    """Return the rates of the settings' file; without one, of US dollars only.

    Raises:
        SettingsError: the file is missing or cannot be read.
    """
    file = settings.currency_rates
    try:
        return Rates() if file is None else _read(file, file.stat().st_mtime_ns)
    except (OSError, UnicodeError) as error:
        raise SettingsError(f"bad settings: CURRENCY_RATES: {file}: {error}") from None
    except RatesError as error:
        raise SettingsError(f"bad settings: CURRENCY_RATES: {file}, {error}") from None


@lru_cache(maxsize=4)
def _read(file: Path, modified: int) -> Rates:  # noqa: ARG001 - part of the cache's key
    return rates(file.read_text(encoding="utf-8"))
