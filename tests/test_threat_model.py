"""Every line of the threat model names a test that there is."""

import ast
import re

from resources.settings import PROJECT

TEXT = (PROJECT / "docs/threat-model.md").read_text(encoding="utf-8")
LINES = [line for line in TEXT.splitlines() if re.match(r"\| (?!threat \|)", line)]
NAMED = re.compile(r"\| `(tests/[\w/]+\.py)::(test_\w+)` \|$")


def test_every_threat_is_defended_by_a_test_that_there_is():
    assert len(LINES) > 30
    for line in LINES:
        file, test = NAMED.search(line).groups()
        functions = ast.parse((PROJECT / file).read_text(encoding="utf-8")).body
        assert test in {one.name for one in functions if isinstance(one, ast.FunctionDef)}, line
