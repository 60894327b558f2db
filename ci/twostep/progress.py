"""Long work shows itself: numbered steps, elapsed time, where the log is.

A step prints its title at once. While it runs, a terminal gets one line that
changes every second; a file or pipe gets a line every half minute.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from twostep.paths import on_host
from twostep.problem import Problem, say, tail

QUIET_SECONDS = 1.5  # a step that is over by then prints nothing but its result


class Steps:
    """Numbers the steps of one command: [2/5] title ... 73 s."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.current = 0

    def start(self, title: str) -> "Step":
        """Begin the next step."""
        self.current += 1
        return Step(f"[{self.current}/{self.total}] {title}")


class Step:
    """One step, timed from its making."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.began = time.monotonic()
        self.terminal = sys.stderr.isatty()
        self.shown = 0.0
        self.wide = 0
        say(title)

    def seconds(self) -> float:
        """Time since the step began."""
        return time.monotonic() - self.began

    def tick(self, text: str) -> None:
        """Show TEXT as the present state, if it is time for it."""
        now = time.monotonic()
        if now - self.shown < (1 if self.terminal else 30) or self.seconds() < QUIET_SECONDS:
            return
        self.shown = now
        line = f"  {self.seconds():4.0f}s  {text}"[:100]
        if self.terminal:
            print(f"\r{line:<{self.wide}}", end="", file=sys.stderr, flush=True)
            self.wide = len(line)
        else:
            say(line)

    def done(self, text: str = "done") -> None:
        """End the step well."""
        line = f"  {self.seconds():4.0f}s  {text}"
        print(f"\r{line:<{self.wide}}" if self.terminal else line, file=sys.stderr, flush=True)

    def run(
        self,
        command: list[str],
        log: Path,
        *,
        failure: str,
        hint: str = "",
        env: Mapping[str, str] | None = None,
        show: Callable[[str], str] = lambda line: line,
    ) -> None:
        """Run COMMAND with its output appended to LOG; raise Problem(FAILURE) if it fails.

        SHOW turns the log's newest line into the progress text.
        """
        log.parent.mkdir(parents=True, exist_ok=True)
        if self.seconds() < QUIET_SECONDS:
            say(f"        log: {on_host(log)}")
        with log.open("ab") as out:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=env
            )
            try:
                while True:
                    try:
                        status = process.wait(timeout=0.5)
                        break
                    except subprocess.TimeoutExpired:
                        self.tick(show(tail(log, 1)))
            finally:
                if process.poll() is None:
                    process.kill()
        if status != 0:
            print(file=sys.stderr)
            free = os.statvfs(log.parent)
            if free.f_bavail * free.f_frsize < 64 << 20:
                failure += "; the disk is full"
            raise Problem(failure, log=log, hint=hint)
