"""What tests share."""

from resources.settings import PROJECT

# Public data and small cases, which lie beside the project and are no part of it.
SHARED = PROJECT.parent / "shared"
