from resources.lakehouse import checkpoints
from resources.lakehouse.checkpoints import ASKED, READ, Kind

KINDS = [kind for kind in vars(checkpoints).values() if isinstance(kind, Kind)]


def test_no_kind_begins_as_another():
    names = [kind.name("") for kind in KINDS]
    assert len(names) > 5
    assert not [(one, other) for one in names for other in names if one != other and one.startswith(other)]


def test_the_numbers_of_a_kind_are_found_by_what_they_are_of():
    kept = {ASKED.name("2026-11-10"): (7, 1), READ.name("silver/pages", "2026-11-10"): (8, 2), "asked": (9, 3)}
    assert ASKED.among(kept) == {"2026-11-10": 7}
    assert READ.among(kept, "silver/pages") == {"2026-11-10": 8}
    assert READ.among(kept, "silver/page") == {}
