"""make deb: the packages, in build/deb; prints where each is.

The soft-RoCE provider and perftest are there. There is none of the kernel and odp-tests yet.
"""

import shutil

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
    say("twostep: there are no packages of the kernel and odp-tests yet")
    return 0


if __name__ == "__main__":
    main()
