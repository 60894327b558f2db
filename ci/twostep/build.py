"""`python3 -m twostep.build FLAVOUR...`: build kernels, print where each is."""

import sys

from twostep.flavours import flavour
from twostep.kernel import kernel_for, steps_for
from twostep.paths import on_host
from twostep.problem import Problem, reporting
from twostep.progress import Steps


@reporting
def main() -> int:
    """Build what the command line names."""
    wanted = [flavour(name) for name in sys.argv[1:]]
    if not wanted:
        raise Problem("which flavour? for example: make kernel KERNEL=twostep", status=2)
    steps = Steps(sum(steps_for(each) for each in wanted))
    for each in wanted:
        print(on_host(kernel_for(each, steps).folder))
    return 0


if __name__ == "__main__":
    main()
