import pytest

from sensors.retrain_encoder import State, decide


@pytest.mark.parametrize(
    ("state", "starts", "why"),
    [
        (State(0, None, unsettled=False), False, "0 labelled texts of 20000"),
        (State(19_999, None, unsettled=False), False, "19999 labelled texts of 20000"),
        (State(20_000, None, unsettled=False), True, "20000 labelled texts of 20000"),
        (State(59_999, 30_000, unsettled=False), False, "59999 labelled texts of 60000"),
        (State(60_000, 30_000, unsettled=False), True, "60000 labelled texts of 60000"),
        (State(30_000, 30_000, unsettled=True), True, "neither champion nor refused"),
        (State(30_000, 30_000, unsettled=False, erased=True), True, "texts that tuned the newest version are erased"),
        (State(19_999, 30_000, unsettled=False, erased=True), False, "19999 labelled texts of 60000"),
    ],
)
def test_the_encoder_is_tuned_when_labels_have_doubled_or_a_run_was_killed(state, starts, why):
    found, said = decide(state)
    assert found == starts
    assert why in said
