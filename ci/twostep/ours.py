"""The files of this repository, by kind, for the tests of the style."""

import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from twostep.paths import SRC

NOT_OURS = {".git", "build", "__pycache__", ".mypy_cache"}


def files(root: Path = SRC) -> list[Path]:
    """Every file of the checkout; git is not asked, a release archive has none."""

    def walk(folder: Path) -> Iterator[Path]:
        for path in sorted(folder.iterdir()):
            if path.name in NOT_OURS or path.is_symlink():
                continue
            if path.is_dir():
                yield from walk(path)
            else:
                yield path

    return list(walk(root))


def _first_line(path: Path) -> str:
    with path.open("rb") as file:
        return file.readline(200).decode(errors="replace")


def is_shell(path: Path) -> bool:
    """A shell script, or a part of one."""
    first = _first_line(path)
    return path.suffix == ".sh" or first.startswith("#!") and first.split("/")[-1].split()[-1] in (
        "sh",
        "bash",
    )


def is_python(path: Path) -> bool:
    """A Python module or script."""
    first = _first_line(path)
    return path.suffix == ".py" or first.startswith("#!") and "python" in first


def is_c(path: Path) -> bool:
    """C source."""
    return path.suffix in (".c", ".h")


def complaints(
    command: Sequence[str | Path], cwd: Path = SRC, env: Mapping[str, str] | None = None
) -> list[str]:
    """What a checker says when it is not content; nothing when it is."""
    result = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env={**os.environ, **(env or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if result.returncode == 0:
        return []
    said = [line for line in result.stdout.splitlines() if line.strip()]
    return said or [f"{command[0]} ended with status {result.returncode} and no word"]


def name(path: Path) -> str:
    """PATH as the user knows it."""
    return str(path.relative_to(SRC)) if path.is_relative_to(SRC) else path.name
