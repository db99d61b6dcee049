from hashlib import sha256

import polars as pl

from signals.traffic import Traffic, arm, assigned

HASHES = [sha256(str(number).encode()).hexdigest() for number in range(4_000)]
DOCUMENTS = pl.DataFrame({"content_hash": HASHES})


def test_each_row_has_one_version_and_each_decision_one_arm():
    traffic = {"hate": Traffic(1), "irony": Traffic(3, challenger=4, share=0.5), "threat": Traffic(5, challenger=6)}
    rows = pl.DataFrame({"task": ["hate", "irony", "irony", "threat", "other"]}).with_columns(
        content_hash=pl.Series(["0" * 64, "0" * 64, "f" * 64, "0" * 64, "0" * 64])
    )
    assert rows.select(assigned(traffic)).to_series().to_list() == [1, 4, 3, 5, None]
    both = rows.filter(pl.col("task") == "irony").join(pl.DataFrame({"model_version": [3, 4]}), how="cross")
    assert both.select(arm(traffic)).to_series().to_list() == ["shadow", "challenger", "champion", "shadow"]
    shadow = rows.filter(pl.col("task") == "threat").join(pl.DataFrame({"model_version": [5, 6]}), how="cross")
    assert shadow.select(arm(traffic)).to_series().to_list() == ["champion", "shadow"]
    assert set(both.select(arm(traffic)).to_series()) <= {"champion", "challenger", "shadow"}
    assert rows.select(assigned({})).to_series().null_count() == rows.height
