"""The identity of the transformation: what a model was trained under, and what it must be served under.

It names every line of ours that can change a digit, and every library that those lines import. Which these are is read
off the imports, so no list can lack one. Comments and docstrings do not count.
"""

import ast
import hashlib
import sys
import unicodedata
from collections.abc import Iterable, Iterator
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parents[2]
# What a text goes through until it is a vector, and what a document goes through until it is answered.
VECTOR = ("signals.documents.text", "signals.models.encoder")
ANSWER = (*VECTOR, "signals.documents.pages", "signals.classify")
# A task says what is asked, not how: its model keeps what it was trained to answer.
NOT_FOLLOWED = ("signals.tasks", "signals.models.transform")
DISTRIBUTIONS = {"PIL": "pillow", "sklearn": "scikit-learn", "yaml": "pyyaml"}


class TransformMismatchError(RuntimeError):
    """A model was trained under another transformation than the one that is running."""

    def __init__(self, model: str, trained_under: str, running: str) -> None:
        super().__init__(
            f"model {model} was trained under transform_id {trained_under}, but {running} is running: "
            "it does not score. `seamless transform compare` says whether both give the same; else retrain it."
        )


def encoder_id(identity: str) -> str:
    """Return the identity of a vector: of the encoder and the text that it is given; 16 hexadecimal digits."""
    return identity_of(identity, VECTOR)


def transform_id(identity: str) -> str:
    """Return the identity of the whole transformation, given the encoder's: 16 hexadecimal digits."""
    return identity_of(identity, ANSWER)


@lru_cache(maxsize=16)
def identity_of(weights: str, modules: tuple[str, ...]) -> str:
    """Return the identity of weights, of all code of some modules and of its libraries: 16 hexadecimal digits."""
    code, libraries = sources(modules)
    # The normal form is by the version of Unicode that Python was built with.
    parts = [weights, f"Unicode {unicodedata.unidata_version}"]
    parts += [f"{name}\n{code[name]}" for name in sorted(code)]
    parts += [f"{name}=={version(DISTRIBUTIONS.get(name, name))}" for name in sorted(libraries)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def require_same(model: str, trained_under: str, running: str) -> None:
    """Raise TransformMismatchError unless both ids are the same."""
    if trained_under != running:
        raise TransformMismatchError(model, trained_under, running)


def sources(modules: Iterable[str]) -> tuple[dict[str, str], set[str]]:
    """Return the code of modules and of all of ours that they import, by name; and the libraries that these import.

    Code is the syntax tree without docstrings: two files of the same code are equal.
    """
    code: dict[str, str] = {}
    libraries: set[str] = set()
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        file = ROOT / f"{name.replace('.', '/')}.py"
        if name in code or name in NOT_FOLLOWED or not file.exists():
            continue
        tree = ast.parse(file.read_bytes())
        imported = set(_imported(tree))
        _drop_docstrings(tree)
        code[name] = ast.dump(tree)
        waiting += [one for one in imported if one.startswith("signals.")]
        tops = {one.partition(".")[0] for one in imported}
        libraries |= tops - sys.stdlib_module_names - {"signals"}
    return code, libraries


def _imported(tree: ast.Module) -> Iterator[str]:
    """Yield the modules that a module imports, wherever in it; of ``from a import b`` both ``a`` and ``a.b``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _drop_docstrings(tree: ast.Module) -> None:
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
