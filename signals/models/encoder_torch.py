"""The encoder as torch runs it: while it is tuned, and in half precision on a GPU."""

import logging
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from signals.models.encoder import DIMENSIONS, MAX_CHARACTERS, MAX_TOKENS, file_digest, tokens_of
from signals.models.encoder_graph import EPSILON, HEADS, Weights
from signals.models.transform import identity_of

# Texts of one batch at first, and so at most: under a gigabyte of activations at the full length.
MOST_TEXTS = 1_024


class HalfEncoder:
    """The same weights with half-precision products on CUDA: mean of the token vectors, normalised.

    What a text is batched with may change the last digits of its vector, which int8 on a CPU rules out; so it is
    another encoder, whose identity says its precision. If the GPU fails, what is under way ends on the CPU, with the
    weights as they were rounded: an encoder never changes its precision.

    Args:
        weights: trained weights in float32, safetensors.
        tokenizer: the matching ``tokenizer.json``.
        device: where torch computes.
    """

    precision = "fp16"

    def __init__(self, weights: Path, tokenizer: Path, device: str = "cuda") -> None:
        self.weights, self.tokenizer, self.device = weights, tokenizer, device
        self.texts_at_once = MOST_TEXTS
        self.lost = False

    @property
    def identity(self) -> str:
        """Weights, tokenizer, precision and what computes with them in one line; part of the transform_id."""
        files = ":".join(file_digest(file) for file in (self.weights, self.tokenizer))
        return f"{self.precision}:{files}:{MAX_TOKENS}:{identity_of('', (__name__,))}"

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return one unit vector a text, shape (len(texts), 384), in the order given."""
        import torch

        ids = [one.ids for one in self._tokens.encode_batch([text[:MAX_CHARACTERS] for text in texts])]
        waiting = sorted(range(len(ids)), key=lambda index: len(ids[index]))
        found = np.empty((len(ids), DIMENSIONS), np.float32)
        while waiting:
            batch = waiting[: self.texts_at_once]
            try:
                found[batch] = self._vectors([ids[index] for index in batch])
            except torch.OutOfMemoryError as error:
                self._make_room(error)
            except RuntimeError as error:
                self._leave(error)
            else:
                del waiting[: len(batch)]
        return found

    def _vectors(self, ids: list[list[int]]) -> npt.NDArray[np.float32]:
        import torch
        from torch.nn.functional import normalize

        longest = max(map(len, ids))
        padded = torch.tensor([one + [0] * (longest - len(one)) for one in ids], device=self.device)
        mask = torch.tensor([[1] * len(one) + [0] * (longest - len(one)) for one in ids], device=self.device)
        with torch.inference_mode():
            hidden = self._model(input_ids=padded, attention_mask=mask).last_hidden_state.float()
            return normalize((hidden * mask[:, :, None]).sum(dim=1), dim=1).cpu().numpy()

    def _make_room(self, error: RuntimeError) -> None:
        """Halve the batches for good: what else is on the GPU is likely to stay."""
        import torch

        if self.texts_at_once == 1:
            self._leave(error)
            return
        self.texts_at_once //= 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _leave(self, error: RuntimeError) -> None:
        """Go on with the CPU.

        Raises:
            RuntimeError: it is the CPU that fails.
        """
        if self.device == "cpu":
            raise error
        logging.getLogger(__name__).warning(
            "the GPU failed (%s): what is under way goes on with the CPU, and int8 serves after it",
            str(error).split("\n", maxsplit=1)[0],
        )
        self.device, self.lost = "cpu", True
        self.__dict__.pop("_model", None)

    @cached_property
    def _model(self) -> Any:
        from safetensors.numpy import load_file

        model = bert(load_file(self.weights)).eval().half()
        # Half precision is slow on a CPU.
        return model.float() if self.device == "cpu" else model.to(self.device)

    @cached_property
    def _tokens(self) -> Any:
        return tokens_of(self.tokenizer)


def bert(weights: Weights, dropout: float = 0.0) -> Any:
    """Return a BertModel in training mode.

    Args:
        weights: by the names that Transformers gives them.
        dropout: share of the hidden values that are dropped in training.
    """
    import torch
    from transformers import BertConfig, BertModel

    layers = 1 + max(int(name.split(".")[2]) for name in weights if name.startswith("encoder.layer."))
    vocabulary, width = weights["embeddings.word_embeddings.weight"].shape
    config = BertConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=HEADS,
        intermediate_size=len(weights["encoder.layer.0.intermediate.dense.bias"]),
        max_position_embeddings=len(weights["embeddings.position_embeddings.weight"]),
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=0.0,
        layer_norm_eps=EPSILON,
    )
    model = BertModel(config, add_pooling_layer=False)
    model.load_state_dict({name: torch.from_numpy(weights[name]) for name in model.state_dict()})
    return model.train()
