import polars as pl
import pytest

from platform_assets.reports.champions import serving, shift
from resources.lakehouse.days import DAY
from tests.support.reports import DAY_1, DAY_2


def test_shift_is_the_part_of_answers_on_other_labels():
    answers = pl.DataFrame({DAY: [DAY_1, DAY_1, DAY_2], "label": ["a", "b", "b"], "decisions": [3, 1, 4]})
    assert shift(answers) == pytest.approx(0.75)
    assert shift(answers.filter(pl.col(DAY) == DAY_1)) is None


def test_answers_are_those_of_the_champion_or_else_of_the_newest():
    answers = pl.DataFrame({"task": ["threat", "threat", "hate", "hate"], "model_version": [1, 2, 1, 2]})
    champions = pl.DataFrame({"task": ["threat"], "model_version": [1]})
    assert serving(answers, champions).rows() == [("threat", 1), ("hate", 2)]
