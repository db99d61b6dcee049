from resources.lakehouse.days import contiguous
from tests.support.delta import MON, TUE, WED


def test_days_are_contiguous_if_none_between_is_missing():
    assert contiguous([MON])
    assert contiguous([WED, MON, TUE])
    assert contiguous([MON, MON, TUE])
    assert not contiguous([MON, WED])
