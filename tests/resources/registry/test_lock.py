"""Processes that race for a lock, each on a machine of its own: with a folder of its own for the files' locks."""

import shutil
import time
from multiprocessing import get_context
from pathlib import Path

import pytest

from resources.registry import lock
from resources.registry.database import client, if_exists
from resources.registry.lock import RELEASED, LeaseLostError, locked

MACHINES, ROUNDS, LEASE = 3, 3, 2.0


@pytest.fixture
def uri(blank: Path, tmp_path: Path) -> str:
    shutil.copy(blank, tmp_path / "db")
    return f"sqlite:///{tmp_path}/db"


def names(uri: str) -> list[str]:
    return [found.name for found in client(uri).search_registered_models("name LIKE 'lock.%'")]


def work(uri: str, machine: int, folder: str) -> None:
    """Add one to a number that nothing else guards; now and then be stopped for longer than a lease, holding it."""
    lock.LOCK_SECONDS = LEASE
    number, log = Path(folder, "number"), Path(folder, f"log-{machine}")
    for turn in range(ROUNDS):
        with locked(client(uri), "dev.raced", Path(folder, f"machine-{machine}")) as lease:
            read = int(number.read_text())
            if turn == machine:
                time.sleep(LEASE * 1.5)
            try:
                lease.check()
            except LeaseLostError:
                continue  # so may others be that a busy machine has made wait
            assert turn != machine
            number.write_text(str(read + 1))
            with log.open("a") as file:
                file.write(f"{lease.generation}\n")


def test_no_two_holders_write_and_no_write_is_lost(uri, tmp_path):
    (tmp_path / "number").write_text("0")
    context = get_context("forkserver")
    context.set_forkserver_preload(["mlflow"])
    workers = [context.Process(target=work, args=(uri, machine, str(tmp_path))) for machine in range(MACHINES)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(300)
    assert [worker.exitcode for worker in workers] == [0] * MACHINES
    wrote = [int(line) for log in tmp_path.glob("log-*") for line in log.read_text().split()]
    assert 0 < len(wrote) == len(set(wrote)) == int((tmp_path / "number").read_text()) <= MACHINES * (ROUNDS - 1)
    assert len(names(uri)) == 1


def test_who_was_succeeded_knows_it_and_leaves_the_lock_of_the_next_alone(uri, tmp_path, monkeypatch):
    found, (first, second) = client(uri), (tmp_path / "first", tmp_path / "second")
    with locked(found, "dev.a", first) as lease:
        lease.check()
        monkeypatch.setattr(lock, "LOCK_SECONDS", 0.2)
        with locked(found, "dev.a", second) as next_one:
            monkeypatch.setattr(lock, "LOCK_SECONDS", 30.0)
            assert next_one.generation == lease.generation + 1
            with pytest.raises(LeaseLostError):
                lease.check()
            next_one.check()
            if_exists(found.set_registered_model_tag, lease.name, RELEASED, "yes")
            assert names(uri) == [next_one.name]
            next_one.check()
        # What the second has written counts, though its lock is released.
        with pytest.raises(LeaseLostError):
            lease.check()
    assert names(uri) == ["lock.dev.a.2"]


def test_a_generation_that_was_succeeded_while_it_was_made_is_no_lock(uri, tmp_path, monkeypatch):
    found, search, behind = client(uri), lock._generations, iter([[(1, True)]])
    for number in (1, 3):
        found.create_registered_model(f"lock.dev.a.{number}")
        found.set_registered_model_tag(f"lock.dev.a.{number}", RELEASED, "yes")
    # At first it sees what was there before the third, and before the second was deleted.
    monkeypatch.setattr(lock, "_generations", lambda *asked: next(behind, None) or search(*asked))
    with locked(found, "dev.a", tmp_path / "machine") as lease:
        assert lease.generation == 4
        assert names(uri) == ["lock.dev.a.4"]


def test_models_have_locks_of_their_own(uri, tmp_path):
    found = client(uri)
    with locked(found, "dev.a", tmp_path) as one, locked(found, "dev.a.b", tmp_path) as other:
        one.check()
        other.check()
    with pytest.raises(ZeroDivisionError), locked(found, "dev.a", tmp_path):
        raise ZeroDivisionError
    with locked(found, "dev.a", tmp_path) as lease:
        assert lease.generation == 3
