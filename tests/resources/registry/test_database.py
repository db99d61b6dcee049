import subprocess
import sys
import time

import pytest

from resources.registry.models import Registry


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.1, 0.2, 0.4])
def test_a_kill_while_the_database_is_made_leaves_none_half_made(tmp_path, seconds):
    database = tmp_path / "here" / "mlflow.db"
    code = "import sys; from resources.registry.models import Registry; Registry(tracking_uri=sys.argv[1], "
    code += "artifacts='a', cache='c', environment='sandbox').versions_by_task()"
    maker = subprocess.Popen([sys.executable, "-c", code, f"sqlite:///{database}"])
    while not any(file.stat().st_size for file in tmp_path.rglob("mlflow.db")):
        assert maker.poll() is None
        time.sleep(0.001)
    time.sleep(seconds)
    maker.kill()
    maker.wait()
    found = Registry(tracking_uri=f"sqlite:///{database}", artifacts="a", cache="c", environment="sandbox")
    assert not any(found.versions_by_task().values())
