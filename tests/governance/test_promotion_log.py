from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from governance.promotion_log import PromotionEvent, champion_before, rolled_back

START = datetime(2026, 11, 10, tzinfo=UTC)


def events(*changes):
    """Return events of (action, version, before), a minute apart."""
    return [
        PromotionEvent(START + timedelta(minutes=i), action, version, before, "ada", "why")
        for i, (action, version, before) in enumerate(changes)
    ]


ONE_TO_THREE = (("promotion", 1, None), ("promotion", 2, 1), ("promotion", 3, 2))


def test_rollbacks_one_after_the_other_go_further_back():
    assert champion_before(events(*ONE_TO_THREE), 3) == 2
    assert champion_before(events(*ONE_TO_THREE, ("rollback", 2, 3)), 2) == 1
    assert champion_before(events(*ONE_TO_THREE, ("rollback", 2, 3), ("rollback", 1, 2)), 1) is None


def test_what_was_promoted_again_goes_back_to_what_it_replaced_last():
    assert champion_before(events(*ONE_TO_THREE, ("rollback", 1, 3), ("promotion", 3, 1)), 3) == 1


def test_a_version_is_rolled_back_until_someone_makes_it_champion_again():
    known = events(*ONE_TO_THREE, ("rollback", 2, 3), ("traffic", 3, 2), ("promotion", 4, 2), ("promotion", 3, 4))
    assert [rolled_back(known[:count]) for count in range(3, 8)] == [set(), {3}, {3}, {3}, set()]


@given(st.lists(st.tuples(st.sampled_from(["promotion", "rollback"]), st.integers(1, 4)), max_size=12))
def test_the_champion_is_never_rolled_back(changes):
    champion, found = None, []
    for action, version in changes:
        found.append((action, version, champion))
        champion = version
    assert champion not in rolled_back(events(*found))


def test_an_event_can_be_kept():
    event = PromotionEvent(START, "traffic", 3, 2, "ada", "„why“", 0.25)
    assert PromotionEvent.load(event.dump()) == event
