"""`seamless predict`: one answer for each line of a file, in order."""

import sys
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from resources.encoder import Encoder
from resources.serving_models import serving_models
from resources.settings import settings
from signals.classify import DOCUMENT, Model, Models, classify
from signals.documents.languages import languages_of
from signals.documents.text import normal_forms
from signals.tasks import TASKS
from signals.traffic import Traffic

CHUNK_LINES = 1_024


def predictions(task: str, file: Path) -> Iterator[dict[str, Any]]:
    r"""Yield line, label, score and scores for each line of a file, with ``name`` where the task names its labels.

    A line in a language that the model was not measured on, or without text, has no label but the ``abstention``. So
    has one of which the model is not sure, with its scores.

    Lines end with ``\n`` only; a last line without one counts. Bytes that are no UTF-8 become replacement
    characters.

    Raises:
        typer.BadParameter: no such task or file, or the task is not asked of texts.
    """
    if task not in TASKS or TASKS[task].documents == ("image",):
        text_tasks = [name for name, declared in TASKS.items() if declared.documents != ("image",)]
        raise typer.BadParameter(
            f"there is no task {task!r} of texts; there are {', '.join(text_tasks)}", param_hint="--task"
        )
    if str(file) != "-" and not file.is_file():
        raise typer.BadParameter(f"there is no file {file}", param_hint="--input")
    serving = serving_models(settings())
    model = serving.champion(task)
    with sys.stdin.buffer if str(file) == "-" else file.open("rb") as stream, _progress() as progress:
        bar = progress.add_task("predicting", total=None)
        number = 0
        while lines := [line.removesuffix(b"\n") for line in islice(stream, CHUNK_LINES)]:
            yield from _answers(model, serving.encoder, lines, number)
            number += len(lines)
            progress.update(bar, completed=number, description=f"predicting: {number:,} lines")


def likeliest(answer: Mapping[str, Any]) -> str | None:
    """Return the likeliest label, which is the answer if the model is sure; None without scores."""
    return max(answer["scores"], key=answer["scores"].__getitem__, default=None)


def _answers(model: Model, encoder: Encoder, lines: list[bytes], offset: int) -> Iterator[dict[str, Any]]:
    texts, hashes = normal_forms(line.decode("utf-8", "replace") for line in lines)
    codes, _ = languages_of(texts)
    rows = [
        {"kind": model.task.documents[0], "content_hash": content_hash, "text": text, "language": language}
        for content_hash, text, language in zip(hashes, texts, codes, strict=True)
    ]
    batch = pa.RecordBatch.from_pylist(rows, schema=DOCUMENT)
    models = Models({model.task.name: Traffic(model.version)}, {model.task.name: model})
    for decisions in classify([batch], models, encoder):
        answers = decisions.select(["label", "score", "scores", "abstention", "topics"]).to_pylist()
        for number, decision in enumerate(answers, offset + 1):
            label = decision["label"]
            name = {"name": model.task.names[label]} if model.task.names.get(label) else {}
            scores = {pair["label"]: pair["score"] for pair in decision["scores"]}
            topics = {"topics": decision["topics"]} if model.task.several else {}
            reason = {"abstention": decision["abstention"]} if label is None else {}
            answer = {"line": number, "label": label, **name, "score": decision["score"]}
            yield {**answer, **reason, **topics, "scores": scores}


def _progress() -> Progress:
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    stderr: IO[str] = sys.stderr
    return Progress(*columns, console=Console(file=stderr), transient=True, disable=not stderr.isatty())
