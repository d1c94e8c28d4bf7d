"""How every verb ends: what is printed where, and with which exit code.

0  done                 text, or with --json one JSON object as the last line, on stdout
1  failed               the reason on stderr; with --json also {"ok": false, ...} on stdout
2  wrong usage          likewise
130  stopped by Ctrl-C  what is kept, on stderr
"""

import contextlib
import json
import signal
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NoReturn

import typer

from vjepa2.errors import ConfigError, VJEPAError

FAILED = 1
WRONG_USAGE = 2
STOPPED = 130


def refuse_usage(error: Any) -> NoReturn:
    """Answer arguments that no verb takes, an error of typer's, as --json promises."""
    error.show()  # how the verb is used, on stderr
    values = {"ok": False, "error": type(error).__name__, "reason": error.format_message()}
    print(json.dumps(values), flush=True)
    sys.exit(WRONG_USAGE)


class Answer:
    """What a verb has to say. Fill it inside `answering`."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self.values: dict[str, Any] = {}
        self.code = 0

    def put(self, values: Mapping[str, Any], *, text: str, failed: bool = False) -> None:
        """Set the result: `values` for --json, `text` for people."""
        self.values = dict(values)
        self.code = FAILED if failed else 0
        if not self._as_json:
            _say(text, sys.stdout)

    def warn(self, lines: Iterable[object]) -> None:
        """Print lines on stderr, for example the files that failed."""
        for line in lines:
            _say(f"vjepa2: {line}", sys.stderr)

    def fail(self, error: BaseException, *, code: int) -> None:
        """Set an error as the result and print its message on stderr."""
        self.values = {"error": type(error).__name__, "reason": str(error)}
        self.code = code
        _say(f"vjepa2: {error}" if str(error) else "vjepa2: stopped.", sys.stderr)

    def finish(self) -> None:
        """Print the JSON object if asked for, and leave with the exit code."""
        if self._as_json:
            # ASCII, so that file names that are no valid text pass as escapes.
            print(json.dumps({"ok": self.code == 0} | self.values), flush=True)
        raise typer.Exit(self.code)


@contextlib.contextmanager
def answering(*, as_json: bool) -> Iterator[Answer]:
    """Run a verb: errors of this package become one message and an exit code."""
    answer = Answer(as_json=as_json)
    try:
        with _stopped_gently():
            yield answer
    except ConfigError as error:
        answer.fail(error, code=WRONG_USAGE)
    except VJEPAError as error:
        answer.fail(error, code=FAILED)
    except KeyboardInterrupt as error:
        answer.fail(error, code=STOPPED)
    answer.finish()


@contextlib.contextmanager
def _stopped_gently() -> Iterator[None]:
    """Schedulers stop jobs with SIGTERM: inside the block it means the same as Ctrl-C."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may choose
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _say(text: str, stream: Any) -> None:
    """Print text that may hold file names which are no valid text."""
    encoding = stream.encoding or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding), file=stream, flush=True)
