"""The encoder's weights, tuned on every labelled task at once, so that one encoding still serves them all.

Multi-task fine-tuning with one linear layer a task (Liu et al. 2019), on the unit vectors that are served. Those layers
are thrown away: the heads that answer are fitted on the tuned vectors by ``signals.models.training``.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from signals.models.encoder import file_digest
from signals.models.encoder_graph import Weights
from signals.models.encoder_torch import bert
from signals.models.training import TUNING_ROWS
from signals.models.transform import identity_of
from signals.models.tuning_state import State, restore, state_of
from signals.splits import calibrates

# Examples seen in all, each row of a small task about twice. Twice as many taught large tasks a little more; heads of
# small ones did no better, and were too sure of themselves.
EXAMPLES = 96_000
# What a tweet or the beginning of an article needs: time is linear in tokens.
MAX_TOKENS = 64
BATCH = 64
# Batches are cut from as many examples sorted by length, for little padding; then they are mixed.
SORTED = 50 * BATCH
RATE, HEAD_RATE, WEIGHT_DECAY = 1.5e-4, 1e-3, 0.01
WARM_UP = 0.06
DROPOUT = 0.1
# A unit vector's coordinates are near 0.05, which a linear layer would take long to grow to.
SCALE = 10.0
# A task that nobody asks teaches what those that are asked have in common, but they come first.
UNASKED_SHARE = 0.25
# A label of fewer rows says more of its rows than of itself.
LEAST_ROWS = 20

# Batches by which a machine's rate is measured, after a first one that loads and compiles.
MEASURED = 8

Progress = Callable[[int, int], None]
Checkpoint = Callable[[Callable[[], State]], None]


def lessons(labels: pl.DataFrame) -> pl.DataFrame:
    """Return the rows that teach the encoder, in an order that depends on their content alone: task, label, text.

    Args:
        labels: silver/labels: task, label, content_hash, text, split, labelled_at, label_id.

    A text that any task holds out, or that calibrates heads, teaches nothing. Nor does a task with so few rows that
    its head is calibrated by cross-fitting: a head that judges rows which its encoder has learned by heart is sure
    of itself for no reason.
    """
    held_out = labels.filter(pl.col("split") == "val").select("content_hash").unique()
    rows = (
        labels.filter(pl.col("split") == "train", pl.col("text") != "", ~calibrates())
        .sort("labelled_at", "label_id")
        .unique(["task", "content_hash"], keep="last", maintain_order=True)
        .join(held_out, on="content_hash", how="anti")
        .filter(pl.len().over("task", "label") >= LEAST_ROWS)
        .filter(pl.len().over("task") > TUNING_ROWS)
    )
    return rows.sort("task", "content_hash").select("task", "label", "text")


def tune(
    weights: Weights,
    tokenizer: Path,
    rows: pl.DataFrame,
    *,
    asked: frozenset[str],
    examples: int = EXAMPLES,
    threads: int = 2,
    device: str = "cpu",
    progress: Progress = lambda done, of: None,  # noqa: ARG005
    saved: State | None = None,
    checkpoint: Checkpoint = lambda state: None,  # noqa: ARG005
) -> dict[str, npt.NDArray[np.float32]]:
    """Return tuned weights, by the same names; the same for the same arguments on the same machine.

    Args:
        weights: of a BertModel, by the names that Transformers gives them.
        tokenizer: the matching ``tokenizer.json``.
        rows: what ``lessons`` returned.
        asked: tasks that documents are asked; the others teach less.
        examples: how many are seen in all; a task's share is as the square root of its rows.
        threads: processor threads.
        device: where torch computes.
        progress: called with examples seen, and of how many.
        saved: the state, of a tuning with the same ``fingerprint`` and examples, from which to go on.
        checkpoint: called after each batch with what returns the state then.
    """
    import torch
    from torch.nn.functional import cross_entropy, normalize

    chance = np.random.default_rng(0)
    tasks = list(_tasks(rows, asked))
    seen = _examples(tasks, tokenizer, examples, chance)
    batches = list(_batches(seen, chance))
    torch.set_num_threads(threads)
    in_bfloat16 = torch.autocast(torch.device(device).type, torch.bfloat16, enabled=bfloat16_is_fast(device))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = _model(weights).to(device)
        heads = torch.nn.ModuleList(torch.nn.Linear(_width(weights), len(task.weights)) for task in tasks)
        for parameter in heads.parameters():
            torch.nn.init.zeros_(parameter)
        heads.to(device)
        label_weights = [torch.from_numpy(task.weights).to(device) for task in tasks]
        groups = [
            {"params": [p for p in model.parameters() if p.requires_grad], "lr": RATE, "weight_decay": WEIGHT_DECAY},
            {"params": list(heads.parameters()), "lr": HEAD_RATE, "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, fused=True)
        warm = max(1, int(WARM_UP * len(batches)))
        learning = torch.nn.ModuleDict({"encoder": model, "heads": heads})
        first = 0 if saved is None else restore(saved, learning, optimizer, device)
        done = sum(map(len, batches[:first]))
        progress(done, len(seen))
        for step, batch in enumerate(batches[first:], first):
            share = min((step + 1) / warm, (len(batches) - step) / (len(batches) - warm + 1))
            for group, rate in zip(optimizer.param_groups, (RATE, HEAD_RATE), strict=True):
                group["lr"] = rate * share
            chosen = [seen[index] for index in batch]
            ids, mask = (of.to(device) for of in _padded([example.ids for example in chosen]))
            with in_bfloat16:
                hidden = model(input_ids=ids, attention_mask=mask).last_hidden_state
            vectors = SCALE * normalize((hidden.float() * mask[:, :, None]).sum(dim=1), dim=1)
            loss = torch.zeros((), device=device)
            for number in sorted({example.task for example in chosen}):
                at = [i for i, example in enumerate(chosen) if example.task == number]
                answers = torch.tensor([chosen[i].answer for i in at], device=device)
                losses = cross_entropy(heads[number](vectors[at]), answers, reduction="none")
                loss = loss + (losses * label_weights[number][answers]).sum()
            optimizer.zero_grad()
            (loss / len(chosen)).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            done += len(chosen)
            progress(done, len(seen))
            checkpoint(partial(state_of, step + 1, learning, optimizer, device))
        return {name: np.array(value.cpu().numpy(), np.float32) for name, value in model.state_dict().items()}


def fingerprint(
    weights: Path, tokenizer: Path, rows: pl.DataFrame, *, asked: frozenset[str], threads: int, device: str
) -> str:
    """Return what decides the result of ``tune`` for a number of examples, code and machine included, as a digest."""
    import torch

    computes = torch.backends.cpu.get_cpu_capability() if device == "cpu" else torch.cuda.get_device_name(device)
    files = [file_digest(weights), file_digest(tokenizer)]
    parts = [*files, sorted(asked), threads, device, computes, identity_of("", (__name__,))]
    found = hashlib.sha256(json.dumps(parts).encode())
    found.update(rows.write_csv().encode())
    return found.hexdigest()


def examples_within(minutes: float, tune: Callable[..., object]) -> int:
    """Return how many examples, ``EXAMPLES`` at most, are seen in so many minutes, by the rate of the first of them.

    Args:
        minutes: the budget; measuring is part of it.
        tune: ``tune`` with all its arguments but ``examples`` and ``progress``.
    """
    told: list[tuple[float, int]] = []
    began = time.perf_counter()
    tune(examples=(MEASURED + 1) * BATCH, progress=lambda done, _: told.append((time.perf_counter(), done)))
    # The first report is of no batch, the second of the one that warms up.
    (start, before), (end, after) = told[1], told[-1]
    left = 60 * minutes - (end - began)
    return max(BATCH, min(EXAMPLES, int(left * (after - before) / (end - start))))


def bfloat16_is_fast(device: str) -> bool:
    """Return whether a device multiplies matrices of bfloat16 in hardware: most GPUs, and processors that say so."""
    import torch

    if device != "cpu":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    offered = torch.cpu.get_capabilities()
    return any(offered.get(name, False) for name in ("amx_bf16", "avx512_bf16"))


@dataclass(frozen=True)
class _Task:
    """A task as it is learned: texts, the index of each one's label, the weight of a label, and its share."""

    texts: list[str]
    answers: npt.NDArray[np.int64]
    weights: npt.NDArray[np.float32]
    share: float


@dataclass(frozen=True)
class _Example:
    task: int
    answer: int
    ids: list[int]


def _tasks(rows: pl.DataFrame, asked: frozenset[str]) -> Iterator[_Task]:
    parts = {str(name): part for (name,), part in rows.group_by("task", maintain_order=True)}
    shares = {name: part.height**0.5 * (1 if name in asked else UNASKED_SHARE) for name, part in parts.items()}
    for name, part in parts.items():
        labels = part["label"].unique().sort()
        answers = part["label"].replace_strict(labels, np.arange(len(labels)), return_dtype=pl.Int64).to_numpy()
        weights = 1 / np.sqrt(np.bincount(answers))
        weights = (weights / weights[answers].mean()).astype(np.float32)
        yield _Task(part["text"].to_list(), answers, weights, shares[name] / sum(shares.values()))


def _examples(tasks: list[_Task], tokenizer: Path, examples: int, chance: np.random.Generator) -> list[_Example]:
    """Return each task's share of the examples: all its rows in a random order, as often as it takes."""
    from tokenizers import Tokenizer

    tokens = Tokenizer.from_file(str(tokenizer))
    tokens.enable_truncation(MAX_TOKENS)
    tokens.no_padding()
    found = []
    for number, task in enumerate(tasks):
        wanted, rows = int(examples * task.share), len(task.texts)
        order = np.concatenate([chance.permutation(rows) for _ in range(-(-wanted // rows))])[:wanted]
        different = np.unique(order)
        read = tokens.encode_batch([task.texts[row][: MAX_TOKENS * 40] for row in different])
        ids = {row: encoding.ids for row, encoding in zip(different, read, strict=True)}
        found += [_Example(number, int(task.answers[row]), ids[row]) for row in order]
    return found


def _batches(examples: list[_Example], chance: np.random.Generator) -> Iterator[list[int]]:
    """Yield indices of examples of like length, all tasks mixed."""
    order = chance.permutation(len(examples))
    for begin in range(0, len(order), SORTED):
        part = sorted(order[begin : begin + SORTED], key=lambda index: len(examples[index].ids))
        batches = [part[first : first + BATCH] for first in range(0, len(part), BATCH)]
        yield from (batches[index] for index in chance.permutation(len(batches)))


def _width(weights: Weights) -> int:
    return weights["embeddings.word_embeddings.weight"].shape[1]


def _model(weights: Weights) -> Any:
    """Return the encoder in training mode; the vectors of its words stay as they are.

    Most words do not occur in what teaches: their vectors must go on fitting those of the words that do.
    """
    model = bert(weights, DROPOUT)
    # Of texts this short in bfloat16, the backward pass of attention in blocks takes a third of all time.
    model.set_attn_implementation("eager")
    model.embeddings.requires_grad_(requires_grad=False)
    return model


def _padded(ids: list[list[int]]) -> tuple[Any, Any]:
    import torch

    longest = max(map(len, ids))
    mask = torch.tensor([[1.0] * len(one) + [0.0] * (longest - len(one)) for one in ids])
    return torch.tensor([one + [0] * (longest - len(one)) for one in ids]), mask
