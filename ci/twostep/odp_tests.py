"""odp-tests: the program that guests have, and the package for a lab."""

import re
import shutil
import subprocess
from pathlib import Path

from twostep.paths import SRC
from twostep.program import program
from twostep.progress import Steps
from twostep.source import source

FOLDER = SRC / "userspace/odp-tests"
VERSION = "0.1"  # of the package; raise it with any change that its users are to get


def with_nouns(main: Path, *more: Path) -> Path:
    """MAIN and MORE, compiled with the nouns of the suite and the kernel's own harness of tests."""
    nouns = sorted(path for path in FOLDER.glob("*.c") if path.name != "odp-tests.c")
    harness = source("6.12", Steps(0)).tree / "tools/testing/selftests"
    # Tables of tests leave out what a test does not need.
    flags = ("-Wno-missing-field-initializers", "-isystem", str(harness))
    return program(
        main, *flags, "-libverbs", "-pthread", includes=(FOLDER,), others=(*nouns, *more)
    )


def odp_tests(*more: Path) -> Path:
    """The suite; with MORE tests."""
    return with_nouns(FOLDER / "odp-tests.c", *sorted(FOLDER.glob("groups/*.c")), *more)


def package(scratch: Path, folder: Path) -> Path:
    """The package, made in FOLDER, with SCRATCH for its files."""
    root = scratch / "odp-tests"
    manual, doc = root / "usr/share/man/man1", root / "usr/share/doc/odp-tests"
    for place in (root / "usr/bin", manual, doc, root / "DEBIAN"):
        place.mkdir(parents=True)
    installed = root / "usr/bin/odp-tests"
    subprocess.run(["strip", "--strip-unneeded", "-o", installed, odp_tests()], check=True)
    shutil.copy(FOLDER / "odp-tests.1", manual)
    subprocess.run(["gzip", "-9n", manual / "odp-tests.1"], check=True)
    shutil.copy(FOLDER / "in-the-lab.md", doc)
    words = ["dpkg", "--print-architecture"]
    architecture = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True).stdout
    fields = {"VERSION": VERSION, "ARCHITECTURE": architecture.strip()}
    control = (FOLDER / "debian/control").read_text(encoding="utf-8")
    control = re.sub(r"@(\w+)@", lambda match: fields[match[1]], control)
    (root / "DEBIAN/control").write_text(control, encoding="utf-8")
    deb = folder / f"odp-tests_{VERSION}_{fields['ARCHITECTURE']}.deb"
    subprocess.run(
        ["dpkg-deb", "--root-owner-group", "--build", root, deb],
        stdout=subprocess.DEVNULL,
        check=True,
    )
    return deb
