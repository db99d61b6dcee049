"""What tests share."""

from resources.settings import PROJECT

# Public data and small cases, which lie beside the project and are no part of it.
SHARED = PROJECT.parent / "shared"
# Tables that only commands and schedules write, about rows of any other.
OF_COMMANDS = {f"operations/{name}" for name in ("access", "erasures", "maintenance", "retention", "suppressions")}
