"""apt on the cache: packages from the host's mirror, whatever the lab root's own apt knows."""

import contextlib
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

from twostep.cache import locked, publish
from twostep.paths import CACHE, HOST, SRC
from twostep.problem import Problem
from twostep.progress import Step

HINT = "check the network, or set TWOSTEP_MIRROR"


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """One at a time."""
    with locked(CACHE / "apt/use", "apt"):
        yield


def _options(sources: bool) -> list[str]:
    """Options that make apt work on the cache, with the host's mirror and proxies."""
    apt = CACHE / ("apt/sources" if sources else "apt")
    for name in ("lists/partial", "archives/partial"):
        (apt / name).mkdir(parents=True, exist_ok=True)
    env = dict(os.environ, TWOSTEP_APT_ETC=str(HOST / "etc/apt"))
    mirror = subprocess.run(
        [str(SRC / "ci/lab/mirror")], env=env, stdout=subprocess.PIPE, text=True, check=False
    )
    if mirror.returncode != 0:
        raise Problem("no Debian mirror is known")
    lines = mirror.stdout
    if sources:
        lines = re.sub(r"^deb ", "deb-src ", lines, flags=re.M)
    publish(apt / "sources.list", lines)
    options = [
        f"Dir::Etc::SourceList={apt}/sources.list",
        "Dir::Etc::SourceParts=/dev/null",
        f"Dir::State::Lists={apt}/lists",
        f"Dir::Cache={apt}",
        "APT::Sandbox::User=root",
        "Acquire::Languages=none",
    ]
    dump = subprocess.run(
        ["apt-config", "-o", f"Dir::Etc={HOST}/etc/apt", "dump"],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    for name, value in re.findall(r'^(Acquire::(?:https?|Check-)\S*) "(.+)";$', dump.stdout, re.M):
        options.append(f"{name}={value}")
    return [word for option in options for word in ("-o", option)]


def updated(step: Step, log: Path, what: str, sources: bool = False) -> list[str]:
    """Options for apt, whose lists are as new as the mirror's; with SOURCES those of sources."""
    options = _options(sources)
    step.run(
        ["apt-get", *options, "update", "--error-on=any"],
        log,
        failure=f"the Debian mirror cannot be reached for {what}",
        hint=HINT,
    )
    return options


def download(step: Step, log: Path, options: list[str], package: str, folder: Path) -> None:
    """Fetch the .deb of PACKAGE into FOLDER."""
    shell = ["sh", "-c", 'cd "$1" && shift && exec apt-get "$@"', "sh", str(folder)]
    step.run(
        [*shell, *options, "--quiet", "download", package],
        log,
        failure=f"the download of {package} failed",
        hint=HINT,
    )


def download_source(
    step: Step, log: Path, options: list[str], package: str, folder: Path
) -> dict[str, str]:
    """Fetch the archives of the source PACKAGE=VERSION into FOLDER; their names and SHA-256.

    Without the .dsc: the archive's signed index has the checksums too, and not every mirror
    has that file.
    """
    asked = subprocess.run(
        ["apt-get", *options, "--print-uris", "--download-only", "source", package],
        capture_output=True,
        text=True,
        check=False,
    )
    found = re.findall(r"^'(\S+)' (\S+\.tar\.\S+) \d+ SHA256:(\w+)$", asked.stdout, re.M)
    if not found:
        raise Problem(f"the mirror offers no source of {package}", hint=HINT)
    for uri, name, digest in found:
        step.run(
            ["/usr/lib/apt/apt-helper", *options]
            + ["download-file", uri, str(folder / name), f"SHA256:{digest}"],
            log,
            failure=f"the download of {name} failed",
            hint=HINT,
        )
    return {name: digest for _, name, digest in found}
