"""Where the log of access is kept: lines in one place, their heads in another, and both only grow."""

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from governance.access import Identity
from governance.access_log import Access, Head, faults, head_of, line_after
from resources.settings import Settings
from resources.write_once import write_once


class AccessLogError(RuntimeError):
    """The log was tampered with: nothing is answered until somebody has looked into it."""


@dataclass
class Answer:
    """What comes of a question, as far as it is known: the tables that it is about, and the number of rows."""

    tables: Sequence[str] = ()
    rows: int = 0


class AccessLog:
    """The log of one installation, which any number of processes share.

    Args:
        settings: those of the process.
    """

    def __init__(self, settings: Settings) -> None:
        self._lines = write_once(settings.access_log, settings)
        self._anchors = write_once(settings.access_anchors, settings)
        self._key = settings.access_log_key.get_secret_value().encode() if settings.access_log_key else None
        # Number of a line that is known to be there.
        self._known = 0

    @contextmanager
    def recorded(self, asks: Identity, door: str, question: str, query: str | None = None) -> Generator[Answer]:
        """Record a question once its answer is there, before it is handed out; also one that fails.

        Raises:
            AccessLogError: see ``add``.
        """
        answer = Answer()

        def add(outcome: str, rows: int) -> None:
            more = {"tables": tuple(answer.tables), "rows": rows, "outcome": outcome, "query": query}
            self.add(Access.of(asks, door, question, self._key, **more))

        try:
            yield answer
        except Exception as error:
            add(type(error).__name__, 0)
            raise
        add("answered", answer.rows)

    def add(self, access: Access) -> None:
        """Add a line, and anchor it. Once this returns, neither a kill nor a loss of power loses it.

        Raises:
            AccessLogError: the end of the log is not the one that was anchored.
            WriteOnceError: the log cannot be read or written.
        """
        while True:
            last = self._head()
            number = last.number + 1 if last else 1
            if last:
                # The writer of the last line may have been killed before it was anchored.
                self._anchor(last)
            if self._anchors.get(number) is not None:
                if self._lines.get(number) is None:
                    raise AccessLogError("the end of the access log is missing: see `seamless audit verify`")
                continue
            line = line_after(last, access, datetime.now(UTC), self._key)
            if self._lines.put(number, line):
                self._anchor(head_of(line))
                return

    def faults(self) -> Iterator[str]:
        """Yield what is wrong with the log."""
        # An anchor that is read has a line, which is read after it.
        anchors = self._anchors.all()
        yield from faults(self._lines.all(), anchors, self._key)

    def after(self, number: int) -> Iterator[str]:
        """Yield the lines after a number."""
        while (line := self._lines.get(number := number + 1)) is not None:
            yield line

    def size(self) -> int:
        """Return the number of lines."""
        last = self._head()
        return last.number if last else 0

    @property
    def signed(self) -> bool:
        """Whether there is a key, without which whoever can write both places can write another log."""
        return self._key is not None

    def _head(self) -> Head | None:
        """Return the end of the log.

        Raises:
            AccessLogError: it is no line of a log.
        """
        there, step = self._known, 1
        while self._lines.get(there + step) is not None:
            there, step = there + step, step * 2
        missing = there + step
        while missing - there > 1:
            middle = (there + missing) // 2
            if self._lines.get(middle) is None:
                missing = middle
            else:
                there = middle
        self._known = there
        if not there:
            return None
        try:
            head = head_of(self._lines.get(there) or "")
        except ValueError:
            raise AccessLogError(f"line {there} of the access log is broken: see `seamless audit verify`") from None
        if head.number != there:
            raise AccessLogError(f"line {there} of the access log is another: see `seamless audit verify`")
        return head

    def _anchor(self, head: Head) -> None:
        if not self._anchors.put(head.number, head.dump()) and self._anchors.get(head.number) != head.dump():
            line = f"line {head.number} of the access log"
            raise AccessLogError(f"{line} is not the one that was anchored: see `seamless audit verify`")
