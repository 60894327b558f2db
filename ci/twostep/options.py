"""The options of ci/vm: what a virtual machine shall be."""

import argparse
import re
from dataclasses import dataclass, field
from typing import NoReturn

from twostep.flavours import FLAVOURS
from twostep.problem import Problem

SIZE = re.compile(r"^[1-9][0-9]*[KMGT]?$")


@dataclass
class Machine:
    """A virtual machine and the command it is to run."""

    command: list[str]
    kernel: str = "twostep"
    iommu: str = "intel"
    lazy: bool = False
    nvme: list[str] = field(default_factory=list)
    cpus: int = 2
    mem: str = "4G"
    icount: bool = False
    share: str | None = None
    rxe: bool = False
    timeout: float = 600
    append: list[str] = field(default_factory=list)
    qemu: list[str] = field(default_factory=list)
    gdb: bool = False
    tty: bool = False


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise Problem(f"ci/vm: {message} (ci/vm --help lists the options)", status=2)


def _size(text: str) -> str:
    if not SIZE.match(text):
        raise argparse.ArgumentTypeError(f"'{text}' is not a size such as 512M or 4G")
    return text


def _count(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 64:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number from 1 to 64")
    return int(text)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number of seconds")
    return value


def _parser() -> _Parser:
    parser = _Parser(
        prog="ci/vm",
        usage="ci/vm [options] -- COMMAND ARG...",
        description="Boot a virtual machine, run COMMAND in it as root, exit with its status; "
        "124 when time is up, 125 when the guest is lost or its kernel log has a splat.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--kernel", choices=list(FLAVOURS), default="twostep", help="which kernel (twostep)")
    add("--iommu", choices=["intel", "virtio", "none"], default="intel", help="vIOMMU (intel)")
    add("--lazy", action="store_true", help="flush the IOTLB lazily, not strictly")
    add("--nvme", type=_size, action="append", default=[], metavar="SIZE",
        help="add an NVMe controller with a disk of SIZE; may be repeated")
    add("--cpus", type=_count, metavar="N", help="number of CPUs (2)")
    add("--mem", type=_size, default="4G", metavar="SIZE", help="memory (4G)")
    add("--icount", action="store_true",
        help="one CPU on the instruction clock: one instruction is 1 ns of guest time")
    add("--share", metavar="DIR", help="folder of the host at /mnt/share, COMMAND's directory")
    add("--rxe", action="store_true", help="first create rxe0 on a dummy interface, 10.7.7.1")
    add("--timeout", type=_seconds, default=600, metavar="SECONDS", help="time for all of it (600)")
    add("--append", action="append", default=[], metavar="ARGS", help="more kernel arguments")
    add("--qemu", action="append", default=[], metavar="ARG", help="more QEMU arguments")
    add("--gdb", action="store_true", help="wait for gdb before the first instruction")
    add("--tty", action="store_true", help="give COMMAND this terminal")
    return parser


def _joined(options: list[str]) -> list[str]:
    """The same with --qemu=ARG for --qemu ARG: what follows may itself begin with a dash."""
    joined: list[str] = []
    for word in options:
        if joined and joined[-1] in ("--qemu", "--append"):
            joined[-1] += f"={word}"
        else:
            joined.append(word)
    return joined


def parse(arguments: list[str]) -> Machine:
    """The machine that ARGUMENTS describe; a Problem if they make no sense."""
    if "--" in arguments:
        at = arguments.index("--")
        options, command = arguments[:at], arguments[at + 1 :]
    else:
        options, command = arguments, []
    known, rest = _parser().parse_known_args(_joined(options))
    if rest:
        what = "option" if rest[0].startswith("-") else "argument before --:"
        raise Problem(f"ci/vm: unknown {what} {rest[0]} (ci/vm --help lists the options)", status=2)
    if not command:
        raise Problem("ci/vm: no command; write it after --, as in: ci/vm -- uname -r", status=2)
    if known.icount and known.cpus not in (None, 1):
        raise Problem("ci/vm: --icount has one CPU; leave --cpus out", status=2)
    known.cpus = 1 if known.icount else known.cpus or 2
    return Machine(command=command, **vars(known))
