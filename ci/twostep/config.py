"""Kernel configuration: fragments merged, and every option seen to survive.

A fragment (kernel/config/*.config) holds `CONFIG_X=y|m|n|value` lines, each
group under a comment that says why. The numbered ones hold for every flavour;
others are named by the flavour and may override them.
"""

import re
import subprocess
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path

from twostep.flavours import Flavour
from twostep.paths import KERNEL
from twostep.problem import Problem

OPTION = re.compile(r"^(CONFIG_\w+)=(\S.*)$")


@dataclass(frozen=True)
class Wish:
    """One option asked for, and where."""

    name: str
    value: str
    where: str  # file:line

    def line(self) -> str:
        """The line as Kconfig writes it."""
        return f"# {self.name} is not set" if self.value == "n" else f"{self.name}={self.value}"


def fragment_files(flavour: Flavour, folder: Path | None = None) -> list[Path]:
    """The fragments of a flavour, in the order in which they are merged."""
    folder = folder or KERNEL / "config"
    named = [folder / f"{name}.config" for name in flavour.fragments]
    return sorted(folder.glob("[0-9]*.config")) + named


def read_fragment(path: Path) -> list[Wish]:
    """The options of one fragment; every group must say why it is there."""
    wishes = []
    reason = False
    for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        where = f"{path.name}:{number}"
        if not text.strip():
            reason = False
        elif text.startswith("# "):
            reason = True
        else:
            match = OPTION.match(text)
            if match is None:
                raise Problem(f"{where}: not a comment and not CONFIG_NAME=value: {text}")
            if not reason:
                raise Problem(f"{where}: {match[1]} stands under no reason; put a comment above it")
            wishes.append(Wish(match[1], match[2], where))
    return wishes


def _twice(wish: Wish, before: Wish) -> Problem:
    return Problem(f"{wish.where}: {wish.name} was already set at {before.where}")


def wishes_of(flavour: Flavour, folder: Path | None = None) -> dict[str, Wish]:
    """Everything a flavour asks for; later fragments win, within one it is an error."""
    merged: dict[str, Wish] = {}
    for path in fragment_files(flavour, folder):
        here: dict[str, Wish] = {}
        for wish in read_fragment(path):
            if wish.name in here:
                raise _twice(wish, here[wish.name])
            here[wish.name] = wish
        for name, wish in here.items():
            if path.name[0].isdigit() and name in merged:
                raise _twice(wish, merged[name])
            merged[name] = wish
    return merged


def lost(wishes: dict[str, Wish], dot_config: str) -> list[str]:
    """Sentences for the options that .config does not have as wished."""
    have = dict(re.findall(r"^(CONFIG_\w+)=(.*)$", dot_config, re.M))
    return [
        f"{wish.name}={wish.value} ({wish.where}), it is {have.get(wish.name, 'absent')}"
        for wish in wishes.values()
        if have.get(wish.name, "n") != wish.value
    ]


def configure(
    flavour: Flavour,
    linux: Path,
    obj: Path,
    release: str,
    *,
    folder: Path | None = None,
    shape: str = "",
    later: Container[str] = (),
) -> None:
    """Write OBJ/.config for FLAVOUR, leaving its time alone when nothing changed.

    SHAPE names our changes to Kconfig: with another Kconfig the same wishes are
    merged and checked anew. LATER are options that this tree does not have yet.
    """
    wishes = {
        name: wish for name, wish in wishes_of(flavour, folder).items() if name not in later
    }
    asked = "".join(wish.line() + "\n" for wish in wishes.values())
    stamp = obj / ".twostep-wishes"
    dot_config = obj / ".config"
    wanted = f"{release}\n{asked}{shape}"
    if dot_config.exists() and stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return
    stamp.unlink(missing_ok=True)
    (obj / "wishes").write_text(asked, encoding="utf-8")
    result = subprocess.run(
        ["make", "-s", "-C", str(linux), f"O={obj}", "ARCH=x86", "allnoconfig"],
        env={"PATH": "/usr/bin:/bin", "KCONFIG_ALLCONFIG": str(obj / "wishes")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if result.returncode != 0:
        raise Problem(f"kconfig failed for {flavour.name}: {result.stdout.strip()[-300:]}")
    missing = lost(wishes, dot_config.read_text(encoding="utf-8"))
    if missing:
        raise Problem(
            f"linux {release} did not take {len(missing)} option(s) of the {flavour.name} "
            "kernel: " + "; ".join(missing),
            hint="look the option up with its dependencies in the kernel's Kconfig files",
        )
    stamp.write_text(wanted, encoding="utf-8")
