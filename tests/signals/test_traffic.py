from hashlib import sha256

import polars as pl

from signals.traffic import Traffic, arms, assigned

HASHES = [sha256(str(number).encode()).hexdigest() for number in range(4_000)]
DOCUMENTS = pl.DataFrame({"content_hash": HASHES})


def test_each_row_has_one_version_and_each_decision_one_arm():
    traffic = {"hate": Traffic(1), "irony": Traffic(3, challenger=4, share=0.5), "threat": Traffic(5, challenger=6)}
    rows = pl.DataFrame({"task": ["hate", "irony", "irony", "threat", "other"]}).with_columns(
        content_hash=pl.Series(["0" * 64, "0" * 64, "f" * 64, "0" * 64, "0" * 64])
    )
    assert rows.select(assigned(traffic)).to_series().to_list() == [1, 4, 3, 5, None]
    contents = ["0" * 64, "f" * 64]
    assert arms(traffic["irony"], 3, contents) == ["shadow", "champion"]
    assert arms(traffic["irony"], 4, contents) == ["challenger", "shadow"]
    assert arms(traffic["irony"], 2, contents) == ["shadow", "shadow"]
    assert [arms(traffic["threat"], version, contents[:1]) for version in (5, 6)] == [["champion"], ["shadow"]]
    assert [arms(traffic["hate"], version, contents) for version in (1, 2)] == [["champion"] * 2, ["shadow"] * 2]
    assert rows.select(assigned({})).to_series().null_count() == rows.height
