"""The command line in this process, which has its imports behind it: for what a command says, not how it starts."""

import io
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from resources.settings import configure, settings
from serving.cli.app import main
from tests.conftest import environment


def seamless(home: Path, *arguments: str, **given: str) -> CompletedProcess[str]:
    """Run a command in a folder, in which the platform keeps all that it keeps, with some settings of its own."""
    before, out, err = settings(), io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patched, chdir(home), redirect_stdout(out), redirect_stderr(err):
        for name, value in (environment(home) | given).items():
            patched.setenv(name, value)
        patched.setattr("sys.argv", ["seamless", *arguments])
        try:
            main()
        except SystemExit as ended:
            return CompletedProcess(arguments, int(ended.code or 0), out.getvalue(), err.getvalue())
        finally:
            configure(**before.model_dump())
    raise AssertionError("a command ends its process")
