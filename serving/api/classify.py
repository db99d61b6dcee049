"""Answers about texts, pages and pictures that a caller sends. No address that a caller names is ever fetched."""

import asyncio
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Depends, Request
from pydantic import AfterValidator, AwareDatetime, Base64Bytes, BaseModel, ConfigDict, Field
from starlette.responses import Response

from resources.signal_store.entries import encoded
from serving.api.batching import BusyError
from serving.api.decider import Group, document_of
from serving.api.identity import Caller, allowed
from serving.api.known import answers
from serving.api.problems import documented, problem
from serving.api.reader import Asked, Read, read_within_budget
from serving.api.signals import JSON, Record, Topic
from serving.api.state import ServerState, state_of
from serving.api.suitability import Url
from signals.documents.page_tree import MAX_TEXT
from signals.tasks import TASKS, tasks_for

MAX_DOCUMENTS = 64
router = APIRouter(tags=["classify"], responses=documented(400, 401, 403, 413, 422, 429, 503))


def _task(name: str) -> str:
    if name not in TASKS:
        raise ValueError(f"no task; there are {', '.join(sorted(TASKS))}")
    return name


Id = Annotated[str, Field(max_length=200, description="A name of the caller's, which the answer repeats.")]
TaskName = Annotated[str, AfterValidator(_task), Field(json_schema_extra={"enum": [*sorted(TASKS)]})]


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid")

    id: Id | None = None
    url: Url | None = None


class TextDocument(_Document):
    """A text."""

    text: str = Field(max_length=MAX_TEXT, description="Plain text.")
    title: str | None = Field(None, max_length=MAX_TEXT, description="Its title.")
    kind: Literal["message", "page"] = Field("message", description="What it is: each kind is asked its own tasks.")


class HtmlDocument(_Document):
    """A page."""

    html: str = Field(description="HTML as fetched; its article is what is classified.")


class ImageDocument(_Document):
    """A picture."""

    image: Base64Bytes = Field(description="The bytes of a PNG, JPEG or other picture, in base64.")


class Classify(BaseModel):
    """Documents to classify."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"documents": [{"text": "What a goal!"}], "deadline_ms": 500}]}
    )

    documents: list[TextDocument | HtmlDocument | ImageDocument] = Field(min_length=1, max_length=MAX_DOCUMENTS)
    tasks: list[TaskName] | None = Field(None, min_length=1, description="Tasks to answer; all that apply if left out.")
    deadline_ms: int | None = Field(
        None, ge=1, le=60_000, description="When to answer: what is not decided by then is answered from the store."
    )


class Score(BaseModel):
    """A label's probability."""

    label: str
    score: float


class DecisionAnswer(BaseModel):
    """One decision, as silver/decisions keeps it."""

    model_config = ConfigDict(extra="allow")

    decision_id: str = Field(description="Names it in silver/decisions.")
    task: str
    label: str | None = Field(description="The answer; null where there is none.")
    score: float | None = Field(description="Its probability.")
    scores: list[Score] = Field(description="The probability of each label.")
    abstention: str | None = Field(description="Why there is no answer: no_text or language.")
    topics: list[Topic]
    model_name: str
    model_version: int
    transform_id: str
    decided_at: AwareDatetime


class Classified(BaseModel):
    """The answer about one document."""

    id: str | None = Field(None, description="The caller's name for it.")
    status: Literal["decided", "stored", "late", "unreadable", "failed"] = Field(
        description="`decided` now; not ready by the deadline and answered from the store (`stored`) or not (`late`);"
        " or no document that could be read (`unreadable`) or decided (`failed`)."
    )
    reason: str | None = Field(None, description="Why it could not be read.")
    content_hash: str | None = Field(None, description="SHA-256 of the text as models read it, or of the picture.")
    language: str | None = Field(None, description="ISO 639-1 code of its language, where the text shows it.")
    decisions: list[DecisionAnswer] = Field([], description="What was decided.")
    unanswered: list[str] = Field([], description="Tasks that were asked, and that no model answers.")
    waited_ms: float | None = Field(None, description="Milliseconds that it waited for others to be decided with.")
    signals: Record | None = Field(None, description="Signals from the store.")


class Answered(BaseModel):
    """The answers about documents."""

    answers: list[Classified] = Field(description="One a document, in order.")
    instruction_set: str = Field(description="What the digits were computed with: the same one gives the same digits.")


@router.post(
    "/v1/classify",
    summary="What models say of texts, pages and pictures",
    response_class=Response,
    responses={200: {"model": Answered}},
)
async def post_classify(
    request: Request, caller: Annotated[Caller, Depends(allowed("classify"))], asked: Classify
) -> Response:
    """Classify up to 64 documents as batch does. Every decision is kept before it is answered."""
    state = state_of(request)
    if state.decider is None:
        raise problem(503, "This server only looks signals up: ask one that classifies.", Retry_After="60")
    if state.decider.serving is None:
        raise problem(503, "The models are being loaded: try again.", Retry_After="2")
    tasks = None if asked.tasks is None else frozenset(asked.tasks)
    work = [asyncio.create_task(_classified(state, caller, one, tasks)) for one in asked.documents]
    await asyncio.wait(work, timeout=None if asked.deadline_ms is None else asked.deadline_ms / 1000)
    if any(one.done() and isinstance(one.exception(), BusyError) for one in work):
        raise problem(503)
    found = [one.result() if one.done() else None for one in work]
    late = [place for place, one in enumerate(found) if one is None]
    for place, answer in zip(late, await _stored(state, caller, [asked.documents[one] for one in late]), strict=True):
        found[place] = answer
    return Response(encoded({"answers": found, "instruction_set": state.instruction_set}), media_type=JSON)


async def _classified(state: ServerState, caller: Caller, one: Any, tasks: frozenset[str] | None) -> dict[str, Any]:
    """Return the answer about one document, once it is decided."""
    assert state.decider is not None  # noqa: S101 - looked at before
    kind = "image" if isinstance(one, ImageDocument) else "page" if isinstance(one, HtmlDocument) else one.kind
    sent = {name: value for name, value in one if name not in {"id", "kind"}}
    read = await read_within_budget(state.readers, Asked(kind, **sent))
    common = {"id": one.id, "content_hash": read.content_hash or None, "language": read.language}
    if read.failure:
        return _said(**common, status="unreadable", reason=read.failure)
    document = _document(read, kind, caller.tenant, one)
    decisions, waited = await state.batcher.ask(Group(kind, tasks), document)
    if decisions is None:
        return _said(**common, status="failed")
    answered = {decision["task"] for decision in decisions}
    wanted = [task.name for task in tasks_for(kind) if tasks is None or task.name in tasks]
    unanswered = [name for name in wanted if name not in answered]
    ms = round(waited * 1000, 3)
    return _said(**common, status="decided", decisions=decisions, unanswered=unanswered, waited_ms=ms)


def _document(read: Read, kind: str, tenant: str, one: Any) -> dict[str, Any]:
    name = read.document_id or one.id or f"sha256:{read.content_hash}"
    document = document_of(read, kind, tenant, name, datetime.now(UTC).date())
    return document | {"body": one.image} if kind == "image" else document


async def _stored(state: ServerState, caller: Caller, late: list[Any]) -> list[dict[str, Any]]:
    """Return what the store knows of documents that are not decided yet."""
    held = await answers(state, caller, [one.url or "" for one in late], expired=False) if late else []
    return [
        _said(id=one.id, status="stored", signals=known.signals)
        if known.status == "current"
        else _said(id=one.id, status="late")
        for one, known in zip(late, held, strict=True)
    ]


def _said(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None or isinstance(value, msgspec.Raw)}
