import pytest

from resources.lakehouse.tables import Lakehouse


@pytest.fixture
def lake(tmp_path):
    return Lakehouse(uri=str(tmp_path / "lake"))
