"""How a command of the lab ends badly: one clear sentence and a status.

Raise Problem anywhere below a main function that is wrapped in `reporting`.
"""

import errno
import functools
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import NoReturn

from twostep.paths import on_host

LOG_LINES = 15


class Problem(Exception):
    """One sentence for the user; the log that shows more; what to try next."""

    def __init__(
        self, sentence: str, *, log: Path | None = None, hint: str = "", status: int = 1
    ) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.log = log
        self.hint = hint
        self.status = status


def say(text: str) -> None:
    """Tell the user; stdout is for results."""
    print(text, file=sys.stderr, flush=True)


def tail(path: Path, lines: int = LOG_LINES) -> str:
    """The last lines of a log, for people."""
    with path.open("rb") as file:
        file.seek(0, 2)
        file.seek(max(0, file.tell() - 200 * lines))
        text = file.read().decode(errors="replace")
    return "\n".join(text.splitlines()[-lines:])


def report(problem: Problem) -> None:
    """Print a problem as the user shall see it."""
    if problem.log is not None and problem.log.exists():
        say(f"--- the last lines of {on_host(problem.log)}")
        say(tail(problem.log))
    say(f"twostep: {problem.sentence}")
    if problem.hint:
        say(f"twostep: try: {problem.hint}")


def _interrupt(signum: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt(signum)


def reporting(main: Callable[[], int]) -> Callable[[], NoReturn]:
    """Wrap a main function: its result or problem becomes the exit status."""

    @functools.wraps(main)
    def wrapped() -> NoReturn:
        # As first process of a PID namespace we get only signals we ask for.
        signal.signal(signal.SIGINT, _interrupt)
        signal.signal(signal.SIGTERM, _interrupt)
        try:
            sys.exit(main())
        except Problem as problem:
            report(problem)
            sys.exit(problem.status)
        except KeyboardInterrupt as interrupt:
            say("twostep: interrupted; the next run takes up where this one stopped")
            sys.exit(128 + (interrupt.args[0] if interrupt.args else signal.SIGINT))
        except BrokenPipeError:
            sys.stderr.close()
            sys.exit(141)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            say(f"twostep: the disk is full: {error.filename or 'a file could not be written'}")
            sys.exit(1)

    return wrapped
