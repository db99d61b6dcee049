"""The card of a model's version: what it is for, what taught it, how it does and where, and what it does not say."""

from collections.abc import Iterator

from governance.gates.promotion import Figure
from resources.registry.versions import ModelVersion
from signals.tasks import TASKS

# Prefixes of what the record has of tables and of numbers of rows.
TABLE, ROWS = "version:", "rows_"
UNKNOWN = "not recorded"


def card(version: ModelVersion) -> str:
    """Return the card as Markdown, from what the registry holds."""
    return "\n".join(_lines(version)) + "\n"


def _lines(version: ModelVersion) -> Iterator[str]:
    record, task = version.record, TASKS.get(version.task)
    yield f"# {version}"
    yield ""
    yield f"- digest: {version.digest}"
    yield f"- transformation: {version.transform_id}"
    yield f"- encoder: {version.encoder or 'the packaged one'}"
    yield f"- registered: {version.trained_at:%Y-%m-%d %H:%M} UTC"
    yield f"- gate: {version.verdict.why if version.verdict else 'not judged'}"
    if version.erased_at:
        yield f"- training rows were erased on {version.erased_at:%Y-%m-%d}: it is to be trained again"
    if task is not None:
        yield from ("", "## Use", "")
        yield f"It answers `{task.name}` of documents of the kinds {', '.join(task.documents)}."
        yield f"Its answers: {', '.join(task.names.get(label, label) for label in task.labels)}."
    yield from ("", "## Data", "", "| what | how many or which |", "|---|---|")
    for name, value in sorted(record.items()):
        if name.startswith(TABLE):
            yield f"| table {name.removeprefix(TABLE)} | version {value} |"
        elif name.startswith(ROWS):
            yield f"| rows {name.removeprefix(ROWS)} | {value} |"
    yield f"| licences of the texts | {record.get('licences', UNKNOWN)} |"
    yield from ("", "## Held-out figures", "", "| figure | value |", "|---|---|")
    yield from (f"| {name.replace('|', ' of ')} | {value:.3f} |" for name, value in sorted(version.metrics.items()))
    if version.verdict and version.verdict.figures:
        yield from ("", "## By slice", "", "| figure | of | value | champion | rows |", "|---|---|---|---|---|")
        yield from map(_slice, version.verdict.figures)
    yield from ("", "## Limits", "")
    yield from _limits(version)


def _slice(figure: Figure) -> str:
    champion = "" if figure.champion is None else f"{figure.champion:.3f}"
    return f"| {figure.name} | {figure.part} | {figure.challenger:.3f} | {champion} | {figure.rows} |"


def _limits(version: ModelVersion) -> Iterator[str]:
    task = TASKS.get(version.task)
    yield "- Figures are of held-out rows of the same sources as the training rows; elsewhere it may do worse."
    if task is None:
        return
    value = version.metrics.get(task.metric)
    reached = UNKNOWN if value is None else f"{value:.3f}"
    yield f"- It is to reach {task.metric} {task.floor:.2f}, and reaches {reached}."
    yield f"- It leaves out answers of which it is not sure, so that {task.precision:.0%} are right."
    if task.documents != ("image",):
        yield "- A language on which it was not measured gets no answer."
        yield "- A text without words gets no answer."
