import time
from multiprocessing import get_context

import pytest

from resources.registry.models import Registry


def look(tracking_uri: str) -> dict[str, list[object]]:
    known = Registry(tracking_uri=tracking_uri, artifacts="a", cache="c", environment="sandbox")
    return known.versions_by_task()


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.1, 0.2, 0.4])
def test_a_kill_while_the_database_is_made_leaves_none_half_made(tmp_path, seconds):
    uri, context = f"sqlite:///{tmp_path}/here/mlflow.db", get_context("forkserver")
    context.set_forkserver_preload(["mlflow"])
    maker = context.Process(target=look, args=(uri,))
    maker.start()
    while not any(file.stat().st_size for file in tmp_path.rglob("mlflow.db")):
        assert maker.is_alive()
        time.sleep(0.001)
    time.sleep(seconds)
    maker.kill()
    maker.join()
    assert not any(look(uri).values())
