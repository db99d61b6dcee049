import json
import subprocess
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path

import pytest

from governance.gates.promotion import Verdict
from governance.promotion_log import ENCODER, PACKAGED
from governance.transform_comparisons import Comparisons
from platform_assets.operations import promotions
from resources.encoder import Encoder
from resources.lakehouse.tables import Lakehouse
from resources.registry import encoder_promotion, promotion
from resources.registry.encoder_promotion import NotReadyError
from resources.registry.errors import ChampionMovedError, ModelMissingError, NotPassedError, TamperedModelError
from resources.registry.models import Registry
from resources.registry.versions import promotion_log
from sensors import retrain_encoder
from tests.encoders import head, other_encoder

pytestmark = pytest.mark.slow
NOTHING_COMPARED = Lakehouse(uri="/without/tables")
TOLD = {"lakehouse": NOTHING_COMPARED, "by": "ada", "why": "tested"}
TASKS = ("hate", "irony")
noise = partial(other_encoder, encodes=False)


@pytest.fixture
def here(registry) -> Registry:
    """Return a registry in which two tasks are answered under the packaged encoder."""
    for number, task in enumerate(TASKS):
        head(registry, Encoder(registry=registry), task, number)
    return registry


@pytest.fixture
def there(here) -> Registry:
    return here.for_environment(f"{here.environment}-prod")


@pytest.fixture
def serving(here):
    """Return version 1 of the encoder, which serves, with its heads."""
    made = noise(here)
    for number, task in enumerate(TASKS):
        head(here, Encoder(registry=here, version=1), task, 10 + number)
    promotion.promote(here, ENCODER, 1, by="gate", why="mean of 2 tasks")
    return made


def answering(registry):
    """Return what answers: the encoder's digest, and the digest of each head, all of which can score."""
    encoder = Encoder(registry=registry)
    under = registry.for_encoder(encoder.digest)
    heads = {task: under.champion(task) for task in registry.traffic()}
    assert all(under.load(one, encoder.transform_id, Comparisons()).digest == one.digest for one in heads.values())
    assert all(one.encoder == encoder.digest for one in heads.values())
    return encoder.digest, {task: one.digest for task, one in heads.items()}


def test_an_encoder_goes_to_production_with_the_heads_that_were_gated_under_it(here, there, serving):
    first = head(there, Encoder(registry=there), "irony", 30)
    made = encoder_promotion.promote(here.champion(ENCODER), here, there, **TOLD)
    assert made.digest == serving.digest
    assert made.record["copied_from"] == f"{here.environment}.{ENCODER}/1"
    assert answering(there) == answering(here)
    assert there.version("irony", 2).record["copied_from"] == f"{here.environment}.irony/2"
    assert there.for_encoder("").champion("irony").digest == first.digest
    moved = promotions.recorded(there).filter(moved_by="ada").select("task", "action", "moved_why")
    assert sorted(moved.rows()) == [(name, "promotion", "tested") for name in (ENCODER, *TASKS)]
    # Once more changes nothing.
    assert encoder_promotion.promote(here.champion(ENCODER), here, there, **TOLD) == there.champion(ENCODER)
    assert [len(there.versions(name, every_encoder=True)) for name in (ENCODER, *TASKS)] == [1, 1, 2]
    assert promotions.recorded(there).filter(moved_by="ada").height == 3


def test_an_encoder_goes_nowhere_without_a_head_for_each_task_that_is_answered_there(here, there, serving):
    head(there, Encoder(registry=there), "sentiment")
    before = answering(there)
    with pytest.raises(NotReadyError, match=r"encoder version 1 cannot serve in \S+-prod: .* sentiment; train .* in"):
        encoder_promotion.promote(serving, here, there, **TOLD)
    assert answering(there) == before
    assert there.versions(ENCODER) == there.versions("irony", every_encoder=True) == []
    head(there, Encoder(registry=here, version=1), "sentiment", 2)
    encoder_promotion.promote(serving, here, there, **TOLD)
    assert answering(there)[1].keys() == {*TASKS, "sentiment"}


def test_a_head_that_an_environment_has_under_an_encoder_stays(here, there, serving):
    own = head(there, Encoder(registry=here, version=1), "irony", 40)
    encoder_promotion.promote(serving, here, there, **TOLD)
    assert answering(there)[1] == answering(here)[1] | {"irony": own.digest}


def test_an_encoder_that_has_not_passed_its_gate_goes_nowhere(here, there, serving):
    refused = noise(here, 2)
    here.judge(refused, Verdict(passed=False, why="irony is below"))
    for task in TASKS:
        head(here, Encoder(registry=here, version=2), task)
    for target in (here, there):
        with pytest.raises(NotPassedError, match="version 2 has not passed the gate: irony is below"):
            encoder_promotion.promote(here.version(ENCODER, 2), here, target, **TOLD)
    with pytest.raises(NotPassedError):
        encoder_promotion.roll_back(here, 2, **TOLD)
    assert answering(here)[0] == serving.digest


def test_rollbacks_go_back_step_by_step_to_the_packaged_encoder_and_its_heads(here, serving):
    with_first = answering(here)
    noise(here, 2)
    for task in TASKS:
        head(here, Encoder(registry=here, version=2), task, 20)
    encoder_promotion.promote(here.version(ENCODER, 2), here, here, **TOLD)
    pinned = Encoder(registry=here)
    assert pinned.digest not in ("", serving.digest)
    assert encoder_promotion.roll_back(here, None, **TOLD) == (1, 2)
    assert answering(here) == with_first
    assert encoder_promotion.roll_back(here, None, **TOLD) == (PACKAGED, 1)
    digest, heads = answering(here)
    assert (digest, here.serving_encoder()) == ("", "")
    assert heads == {task: here.version(task, 1).digest for task in TASKS}
    assert pinned.now().encoder_id == Encoder().encoder_id
    with pytest.raises(ModelMissingError, match=r"the packaged encoder serves in .*: there is none before it"):
        encoder_promotion.roll_back(here, None, **TOLD)
    events = [(event.action, event.version, event.before) for event in promotion_log(here.versions(ENCODER))]
    assert events[2:] == [("rollback", 1, 2), ("rollback", PACKAGED, 1)]
    assert promotions.recorded(here).filter(task=ENCODER, action="rollback")["moved_by"].to_list() == ["ada"] * 2
    encoder_promotion.promote(here.version(ENCODER, 1), here, here, **TOLD)
    assert answering(here) == with_first


@pytest.mark.usefixtures("serving")
def test_a_rollback_to_an_encoder_that_would_leave_a_task_unanswered_is_refused(here):
    head(here, Encoder(registry=here), "sentiment")
    before = answering(here)
    with pytest.raises(NotReadyError, match=r"the packaged encoder cannot serve in .*: no head under it .* sentiment"):
        encoder_promotion.roll_back(here, PACKAGED, **TOLD)
    with pytest.raises(ModelMissingError, match="version 7"):
        encoder_promotion.roll_back(here, 7, **TOLD)
    assert answering(here) == before
    with pytest.raises(NotReadyError, match=r"sentiment; .* --without them"):
        encoder_promotion.roll_back(here, PACKAGED, **TOLD, without=["hate"])
    assert encoder_promotion.roll_back(here, PACKAGED, **TOLD, without=["sentiment"])[0] == PACKAGED
    digest, heads = answering(here)
    assert (digest, heads.keys()) == ("", {*TASKS})


@pytest.mark.usefixtures("serving")
def test_no_rollback_leaves_every_task_unanswered(here):
    noise(here, 2)
    with pytest.raises(NotReadyError, match=r"encoder version 2 cannot serve in .*any task"):
        encoder_promotion.roll_back(here, 2, **TOLD, without=TASKS)


def test_a_head_whose_files_were_changed_stops_the_move(here, there, serving):
    (file,) = Path(here.fetch(here.champion("irony"))).glob("*.safetensors")
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(TamperedModelError):
        encoder_promotion.promote(serving, here, there, **TOLD)
    assert there.versions(ENCODER) == []


def test_what_a_person_rolled_back_is_put_back_by_a_person_only(here, serving):
    encoder_promotion.roll_back(here, None, **TOLD)
    with pytest.raises(NotPassedError, match="version 1 was rolled back: only a person may promote it"):
        promotion.promote(here, ENCODER, 1, by="gate", why="good", automatic=True)
    newest = here.versions(ENCODER)[0]
    assert newest.settled, "so that no run goes on with it"
    state = retrain_encoder.State(39_999, int(newest.record["texts"]), unsettled=not newest.settled)
    assert not retrain_encoder.decide(state)[0]
    promotion.promote(here, ENCODER, 1, by="eve", why="it was not the encoder")
    assert answering(here)[0] == serving.digest


RACER = """
import json, sys
from resources.lakehouse.tables import Lakehouse
from resources.registry import encoder_promotion
from resources.registry.models import Registry
registry = Registry(**json.loads(sys.argv[1]))
registry.versions("encoder")
print("ready", flush=True)
sys.stdin.readline()
try:
    print(encoder_promotion.roll_back(registry, None, Lakehouse("/without/tables"), by=sys.argv[2], why="a race"))
except Exception as error:
    print(type(error).__name__)
"""


@pytest.mark.usefixtures("serving")
def test_of_two_processes_that_roll_back_at_once_each_finds_what_the_other_left(here):
    given = [sys.executable, "-c", RACER, json.dumps(asdict(here))]
    racers = [
        subprocess.Popen([*given, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for name in ("ada", "eve")
    ]
    assert [racer.stdout.readline() for racer in racers] == ["ready\n"] * 2
    for racer in racers:
        racer.stdin.write("go\n")
        racer.stdin.flush()
    said = sorted(racer.communicate(timeout=300)[0].strip() for racer in racers)
    assert said == [f"({PACKAGED}, 1)", "ModelMissingError"]
    assert answering(here)[0] == ""
    assert [event.action for event in promotion_log(here.versions(ENCODER))] == ["promotion", "rollback"]


@pytest.mark.usefixtures("serving")
def test_the_gate_does_not_promote_over_a_rollback_that_it_has_not_seen(here):
    second = noise(here, 2)
    here.judge(second, Verdict(passed=True, why="better than version 1", against=1))
    encoder_promotion.roll_back(here, None, **TOLD)
    with pytest.raises(ChampionMovedError, match="compared with version 1, but version None is champion now"):
        promotion.promote(here, ENCODER, 2, by="gate", why="better", automatic=True)
    assert answering(here)[0] == ""
