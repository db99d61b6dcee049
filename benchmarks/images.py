"""False alarms of the image model by kind of picture.

Usage: python -m benchmarks.images FOLDER

The folder is laid out like the corpus ``images_safety``: a ``labels.csv`` with file, label and class. None of its
pictures is sexual, so whatever the model takes for adult is a false alarm; what it misses cannot be measured.
"""

import argparse
import csv
import tempfile
import time
from pathlib import Path

import polars as pl

from signals.models.pictures import PictureModels, package
from signals.tasks import TASKS

TASK = TASKS["image_threat"]
THRESHOLDS = (0.2, 0.5, 0.8)


def alarms(folder: Path) -> pl.DataFrame:
    """Return by label, and for all, the pictures, and at each threshold those that are likelier to be adult."""
    rows = list(csv.DictReader((folder / "labels.csv").read_text(encoding="utf-8").splitlines()))
    with tempfile.TemporaryDirectory() as files:
        package(Path(files), TASK.labels)
        scores = PictureModels(Path(files), TASK.labels).scores([(folder / row["file"]).read_bytes() for row in rows])
    adult = pl.Series(scores[:, TASK.labels.index("adult")])
    pictures = pl.DataFrame({"kind": [row["label"] for row in rows], "class": [row["class"] for row in rows]})
    counts = [pl.col("adult").ge(least).sum().alias(f"from {least}") for least in THRESHOLDS]
    worst = pl.format("{} {}", pl.col("class").sort_by("adult").last(), pl.col("adult").max().round(3)).alias("worst")
    pictures = pictures.with_columns(adult=adult)
    both = pl.concat([pictures, pictures.with_columns(kind=pl.lit("all"))])
    return both.group_by("kind", maintain_order=True).agg(pl.len().alias("pictures"), *counts, worst)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    started = time.perf_counter()
    found = alarms(parser.parse_args().folder)
    with pl.Config(tbl_hide_dataframe_shape=True, tbl_hide_column_data_types=True):
        print(found)
    print(f"{found.filter(kind='all')['pictures'].item() / (time.perf_counter() - started):.0f} pictures a second")
