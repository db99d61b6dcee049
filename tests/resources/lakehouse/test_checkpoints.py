from resources.lakehouse import checkpoints
from resources.lakehouse.checkpoints import LOOKUP_READ, SCORED_BY, CheckpointKind
from resources.lakehouse.tables import CHECKPOINT, Lakehouse
from tests.support.delta import MON, PAGES, frame

KINDS = [kind for kind in vars(checkpoints).values() if isinstance(kind, CheckpointKind)]


def test_no_kind_begins_as_another():
    names = [kind.name("") for kind in KINDS]
    assert len(names) > 5
    assert not [(one, other) for one in names for other in names if one != other and one.startswith(other)]


def test_the_numbers_of_a_kind_are_found_by_what_they_are_of():
    kept = {SCORED_BY.name("2026-11-10"): 7, LOOKUP_READ.name("silver/pages", "2026-11-10"): 8, "asked": 9}
    assert SCORED_BY.matching(kept) == {"2026-11-10": 7}
    assert LOOKUP_READ.matching(kept, "silver/pages") == {"2026-11-10": 8}
    assert LOOKUP_READ.matching(kept, "silver/page") == {}


def test_all_checkpoints_are_those_that_each_source_has_whatever_has_become_of_the_log(tmp_path):
    lake = Lakehouse(uri=str(tmp_path / "lake"), streaming=True)
    assert lake.checkpoints(PAGES) == {}
    lake.replace_days(PAGES, [MON], frame())
    assert lake.checkpoints(PAGES) == {}
    for number in range(int(CHECKPOINT) * 2 + 5):
        lake.append_once(PAGES, frame(("a", number, MON)), {}, {f"s{number % 7}": number, f"file {number} é": -number})
        found = lake.checkpoints(PAGES)
        assert found == {name: lake.checkpoint(PAGES, name) for name in found}
        assert len(found) == number + 1 + min(number + 1, 7)
    lake.open(PAGES).optimize.compact()
    lake.open(PAGES).alter.set_table_properties({"delta.logRetentionDuration": "interval 0 seconds"})
    lake.open(PAGES).create_checkpoint()
    lake.open(PAGES).cleanup_metadata()
    assert lake.checkpoints(PAGES) == found
    lake.save_checkpoints(PAGES, {"inputs": 1})
    assert lake.checkpoints(PAGES) == found | {"inputs": 1}
