import io
import threading

from rich.console import Console

from resources.progress import under_way, work
from serving.cli import progress
from serving.cli.progress import line, shown


def test_a_line_says_stage_work_and_the_time_left(monkeypatch):
    clock = iter([0, 0, 120])
    monkeypatch.setattr("resources.progress.time.monotonic", lambda: next(clock))
    assert line("ingest", 3, 10, 60).endswith("UTC, after 1 min: ingest, 3 of 10")
    with work("encode texts") as report:
        assert line("encode", 0, 0, 60).endswith("encode; encode texts")
        report(1_000, 5_000)
        report(2_000, 5_000)
        assert line("encode", 0, 0, 60).endswith("encode; encode texts 2,000 of 5,000, 6 min left")
    assert under_way() is None


def test_of_work_in_work_the_innermost_is_told():
    with work("train irony"):
        with work("encode texts"):
            assert under_way().name == "encode texts"
        assert under_way().name == "train irony"


def test_without_a_terminal_lines_come_while_work_goes_on(monkeypatch):
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.01)
    said = threading.Event()

    class Lines(io.StringIO):
        def write(self, text):
            if "train" in text:
                said.set()
            return super().write(text)

    file = Lines()
    with shown(Console(file=file, force_terminal=False)) as stage, work("train irony"):
        stage("train", 1, 9)
        assert said.wait(20)
    assert "train, 1 of 9; train irony" in file.getvalue()
