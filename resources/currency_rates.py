"""An installation's exchange rates, in a file of its own."""

from functools import lru_cache
from pathlib import Path

from resources.settings import Settings, SettingsError
from signals.documents.currency import Rates, RatesError, rates


def currency_rates(settings: Settings) -> Rates:
    """Return the rates that the settings name; where they name none, nothing but US dollars is known.

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
def _read(file: Path, changed: int) -> Rates:  # noqa: ARG001 - a file that has changed is read again
    return rates(file.read_text(encoding="utf-8"))
