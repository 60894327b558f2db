"""make deb: the packages, in build/deb; prints where each is.

The soft-RoCE provider is one. There is none of the kernel, odp-tests and perftest yet.
"""

import shutil

from twostep.paths import BUILD, on_host
from twostep.problem import reporting, say
from twostep.progress import Steps
from twostep.rdma_core import provider, steps_for_provider


@reporting
def main() -> int:
    """The command make deb."""
    package = provider(Steps(steps_for_provider())).package
    folder = BUILD / "deb"
    folder.mkdir(parents=True, exist_ok=True)
    print(on_host(shutil.copy(package, folder)))
    say("twostep: there are no packages of the kernel, odp-tests and perftest yet")
    return 0


if __name__ == "__main__":
    main()
