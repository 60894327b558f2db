"""make deb: the packages, in build/deb; prints where each is.

The soft-RoCE provider, perftest and odp-tests are there. There is none of the kernel yet.
"""

import shutil
import tempfile
from pathlib import Path

from twostep import odp_tests
from twostep.paths import BUILD, on_host
from twostep.problem import reporting, say
from twostep.progress import Steps
from twostep.patched import built
from twostep.userland import PROJECTS, steps_for_userland


@reporting
def main() -> int:
    """The command make deb."""
    steps = Steps(steps_for_userland())
    folder = BUILD / "deb"
    folder.mkdir(parents=True, exist_ok=True)
    for project in PROJECTS:
        print(on_host(shutil.copy(built(project, steps).package, folder)))
    with tempfile.TemporaryDirectory() as scratch:
        print(on_host(odp_tests.package(Path(scratch), folder)))
    say("twostep: there is no package of the kernel yet")
    return 0


if __name__ == "__main__":
    main()
