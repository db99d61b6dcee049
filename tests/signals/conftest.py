import pytest

from resources.encoder import Encoder


@pytest.fixture(scope="session")
def encoder():
    return Encoder()
