"""C programs of ours, compiled in the lab root and kept in the cache by their content."""

import subprocess
from pathlib import Path

from twostep.cache import file_digest, key, locked
from twostep.paths import CACHE, SRC, lab_key
from twostep.problem import Problem


def program(
    main: Path, *flags: str, includes: tuple[Path, ...] = (), others: tuple[Path, ...] = ()
) -> Path:
    """MAIN, a C program of ours, and OTHERS, compiled; kept in the cache by their content.

    With the headers beside it and in the folders INCLUDES.
    """
    name = main.stem
    headers = [
        header for place in (main.parent, *includes) for header in sorted(place.glob("*.h"))
    ]
    contents = [file_digest(file) for file in (main, *others, *headers)]
    folder = CACHE / "program" / f"{name}-{key([*contents, lab_key(), *flags])}"
    binary = folder / name
    if not binary.exists():
        with locked(folder, f"compiling {main.name}"):
            folder.mkdir(parents=True, exist_ok=True)
            new = folder / f"{name}.new"
            compiler = ["gcc", "-std=gnu11", "-O2", "-g", "-Wall", "-Wextra", "-Werror"]
            folders = [f"-I{place}" for place in includes]
            result = subprocess.run(
                [*compiler, *folders, "-o", new, main, *others, *flags],
                stderr=subprocess.PIPE,
                text=True,
                check=False,
            )
            if result.returncode != 0:
                raise Problem(
                    f"{main.relative_to(SRC)} does not compile: {result.stderr.strip()}"
                )
            new.rename(binary)
    return binary
