"""What is trained, for tests of what is measured of it."""

from tests.platform_assets.models.conftest import encoder, lake, materialised

__all__ = ["encoder", "lake", "materialised"]
