"""make gdb: gdb on a machine that was started with `ci/vm --gdb`."""

import os
from pathlib import Path

from twostep import source
from twostep.flavours import flavour
from twostep.kernel import kernel_for, steps_for, tree_of
from twostep.problem import Problem, reporting
from twostep.progress import Steps
from twostep.qemu import GDB_PORT


@reporting
def main() -> int:
    """Become gdb, with the symbols and sources of KERNEL."""
    wanted = flavour(os.environ.get("KERNEL") or "debug")
    kernel = kernel_for(wanted, Steps(steps_for(wanted)))
    base = source.cached(wanted.base)
    if base is None:
        raise Problem(f"the source of linux {wanted.base} is gone from the cache")
    tree: Path = tree_of(wanted, base)
    os.execvp(
        "gdb",
        [
            "gdb",
            "-q",
            "-ex", f"set substitute-path /twostep/linux {tree}",
            "-ex", f"directory {tree}",
            "-ex", f"target remote 127.0.0.1:{GDB_PORT}",
            str(kernel.folder / "vmlinux"),
        ],
    )  # fmt: skip


if __name__ == "__main__":
    main()
