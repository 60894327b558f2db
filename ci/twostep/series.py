"""make series: the assembled state as patches to mail, one for each area.

build/series/ holds 0001-....patch and so on in the order of kernel/series, as
git format-patch writes them, and a README that names the base and says how to
apply them. The message of an area is kernel/AREA/commit-message: subject, empty
line, body; the Signed-off-by is the sender's to add (git am -s, git format-patch
-s). With an empty kernel/series the folder is empty.

The repository that the patches come from is temporary and holds only the files
that the series touches. What is written has been applied to the base again and
compared with the assembled state.
"""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from twostep import source
from twostep.assemble import Blob, Content, Part, areas, assembled, series
from twostep.paths import BUILD, KERNEL, on_host
from twostep.problem import Problem, reporting, say
from twostep.progress import Steps
from twostep.source import Source

NOBODY = "Twostep <twostep@localhost>"
# git am takes what follows such a line for the patch itself
CUTS_MESSAGE = re.compile(r"^(?:---|diff -|Index: )")

README = """\
{count} patches, one for each area of kernel/series, for the kernel of Debian's
linux-source-6.12 in version {version} (Linux {release}).

Apply them in a git repository of that source:

    git am {folder}/*.patch

They carry no Signed-off-by: add yours with git am -s.
"""


class Repository:
    """A small git repository that reads nobody's configuration."""

    def __init__(self, folder: Path, author: str = NOBODY) -> None:
        self.folder = folder
        match = re.match(r"^(.+) <(\S+@\S+)>", author)
        if match is None:
            raise Problem(f"the author '{author}' is not written as: Name <mail@example.org>")
        self.env = {"PATH": os.environ["PATH"], "HOME": str(folder), "LANG": "C.UTF-8"}
        self.env |= {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null"}
        for who in ("AUTHOR", "COMMITTER"):
            self.env |= {f"GIT_{who}_NAME": match[1], f"GIT_{who}_EMAIL": match[2]}
        folder.mkdir(parents=True, exist_ok=True)
        self.git("init", "--quiet", "--initial-branch=series")

    def git(self, *arguments: str) -> str:
        """Run git; what it printed."""
        result = subprocess.run(
            ["git", *arguments],
            cwd=self.folder,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        if result.returncode != 0:
            raise Problem(
                f"git {arguments[0]} failed: {(result.stderr or result.stdout).strip()[-300:]}"
            )
        return result.stdout.strip()

    def commit(self, state: Content, *message: str) -> None:
        """Commit STATE; paths it does not name stay."""
        for path, blob in state.items():
            there = self.folder / path
            if blob is not None:
                blob.write(there)
            else:
                there.unlink(missing_ok=True)
        self.git("add", "--all", "--force")
        self.git("commit", "--quiet", "--allow-empty", "--cleanup=whitespace", *message)

    def tree(self) -> str:
        """Names the committed content."""
        return self.git("rev-parse", "HEAD^{tree}")


def message_file(kernel: Path, area: str) -> Path:
    """The commit message of AREA; a Problem if it is not there or not fit for mail."""
    path = kernel / area / "commit-message"
    name = f"kernel/{area}/commit-message"
    if not path.exists():
        raise Problem(f"{name} is missing; it is the commit message of the {area} patch")
    lines = path.read_text(encoding="utf-8").strip().splitlines()
    if len(lines) < 3 or lines[1].strip():
        raise Problem(f"{name} must be a subject line, an empty line and a body")
    for number, line in enumerate(lines, 1):
        if CUTS_MESSAGE.match(line):
            raise Problem(f"{name}:{number}: git am would end the message at '{line}'")
    return path


def base_content(base: Source, parts: Sequence[Part]) -> Content:
    """What the base has at every path that PARTS touch."""
    return {path: Blob.of(base.tree / path) for part in parts for path in part.targets()}


def _commit_areas(work: Repository, base: Source, parts: Sequence[Part], kernel: Path) -> None:
    so_far: list[Part] = []
    work.commit(base_content(base, parts), "-m", f"linux {base.version}")
    work.git("tag", "base")
    for area, own in areas(parts):
        so_far += own
        before = work.tree()
        work.commit(assembled(base, so_far), "-F", str(message_file(kernel, area).resolve()))
        if work.tree() == before:
            raise Problem(f"the area {area} changes nothing, so it cannot be a patch")


def _verify(
    folder: Path, base: Source, parts: Sequence[Part], wanted: str, temporary: Path
) -> None:
    """Apply the patches as their reader will, and compare."""
    reader = Repository(temporary)
    reader.commit(base_content(base, parts), "-m", f"linux {base.version}")
    reader.git("am", "--quiet", *(str(path) for path in sorted(folder.glob("*.patch"))))
    if reader.tree() != wanted:
        raise Problem("the written series does not give the assembled tree when it is applied")


def export(
    base: Source, parts: Sequence[Part], kernel: Path, folder: Path, author: str = NOBODY
) -> list[Path]:
    """Write the series of PARTS into FOLDER, replacing what was there; return the patches."""
    new = folder.with_name(folder.name + ".new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    if parts:
        with tempfile.TemporaryDirectory() as temporary:
            work = Repository(Path(temporary) / "work", author)
            _commit_areas(work, base, parts, kernel)
            work.git(
                "format-patch", "--quiet", "--numbered", "--no-renames", "--no-signature",
                "--zero-commit", "--binary", "--output-directory", str(new.resolve()), "base",
            )
            _verify(new, base, parts, work.tree(), Path(temporary) / "reader")
        readme = README.format(
            count=len(list(new.glob("*.patch"))),
            version=base.version,
            release=base.release,
            folder=on_host(folder),
        )
        (new / "README").write_text(readme, encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    new.rename(folder)
    return sorted(folder.glob("*.patch"))


@reporting
def main() -> int:
    """The command make series."""
    parts = series(KERNEL)
    folder = BUILD / "series"
    base = source.source("6.12", Steps(1))
    for patch in export(base, parts, KERNEL, folder, os.environ.get("TWOSTEP_AUTHOR") or NOBODY):
        print(on_host(patch))
    if not parts:
        say(f"twostep: kernel/series is empty, so there is no patch in {on_host(folder)}")
    return 0


if __name__ == "__main__":
    main()
