"""Encoders that are cheap to make, and heads under them, for tests of what moves between encoders."""

import tempfile
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from governance.gates.promotion import Verdict
from governance.promotion_log import ENCODER
from resources.encoder import WEIGHTS, Encoder, packaged_weights, tokenizer
from resources.registry import promotion
from resources.registry.models import Registry
from resources.registry.versions import ModelVersion
from signals.models.encoder import DIMENSIONS, Int8Encoder
from signals.models.heads import LinearHead
from signals.models.ngrams import FEATURES
from signals.models.transform import transform_id
from signals.tasks import TASKS

NOISY = "encoder.layer.5.output.dense.weight"
PASSED = Verdict(passed=True, why="as it was measured")


def shallow(folder: Path) -> Path:
    """Write the packaged encoder's embeddings and first layer, which take a fraction of the time to load and tune."""
    kept = load_file(packaged_weights())
    layers = [name for name in kept if name.startswith("encoder.layer.") and not name.startswith("encoder.layer.0.")]
    save_file({name: value for name, value in kept.items() if name not in layers}, folder / WEIGHTS)
    return folder / WEIGHTS


def other_encoder(registry: Registry, seed: int = 1, *, encodes: bool = True) -> ModelVersion:
    """Register an encoder that has passed the gate: the packaged weights, a little noisier for each seed.

    One that does not encode is nothing but noise, of a hundredth of the size.
    """
    weights = load_file(packaged_weights()) if encodes else {NOISY: np.ones((DIMENSIONS, DIMENSIONS), np.float32)}
    noise = np.random.default_rng(seed).normal(0, weights[NOISY].std() / 2 or 1, weights[NOISY].shape)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / WEIGHTS
        save_file(weights | {NOISY: weights[NOISY] + noise.astype(np.float32)}, file)
        record = {"transform_id": transform_id(Int8Encoder(file, tokenizer()).identity), "texts": 20_000}
        made = registry.register(ENCODER, Path(folder), {}, record)
    registry.judge(made, PASSED)
    return registry.version(ENCODER, made.version)


def head(registry: Registry, encoder: Encoder, task: str, seed: int = 1) -> ModelVersion:
    """Make a head that answers at random the champion of a task under an encoder."""
    labels, chance, under = TASKS[task].labels, np.random.default_rng(seed), registry.for_encoder(encoder.digest)
    vector, ngram = (chance.standard_normal((n, len(labels))).astype(np.float32) for n in (DIMENSIONS, FEATURES))
    with tempfile.TemporaryDirectory() as folder:
        made = LinearHead(labels, vector, ngram, np.zeros(len(labels), np.float32))
        made.save(Path(folder), task=task, transform_id=encoder.transform_id)
        record = {"transform_id": encoder.transform_id}
        version = under.register(task, Path(folder), {TASKS[task].metric: 0.7}, record)
    under.judge(version, PASSED)
    promotion.promote(under, task, version.version, by="gate", why="as it was measured")
    return under.version(task, version.version)


def tiny_model(folder: Path, *, languages: list[str] | str | None, seed: int = 0) -> Path:
    """Write an untrained model of 16 dimensions in the layout of sentence-transformers, which reads any letters."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    base = folder / "base"
    letters = ["[PAD]", "[UNK]", *map(chr, range(33, 400))]
    tokenizer = Tokenizer(models.WordPiece({text: place for place, text in enumerate(letters)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]")
    fast.save_pretrained(base)
    torch.manual_seed(seed)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    config = BertConfig(vocab_size=len(letters), max_position_embeddings=128, **sizes)
    BertModel(config).save_pretrained(base)
    words = Transformer(str(base), max_seq_length=64)
    SentenceTransformer(modules=[words, Pooling(16)], device="cpu").save(str(folder), create_model_card=False)
    if languages is not None:
        (folder / "README.md").write_text(f"---\nlanguage: {languages}\n---\n", encoding="utf-8")
    return folder
