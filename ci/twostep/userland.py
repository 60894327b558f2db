"""What guests have of ours besides the kernel: other projects' programs with our patches."""

from twostep.patched import built, steps_for
from twostep.perftest import PERFTEST
from twostep.progress import Steps
from twostep.rdma_core import RDMA_CORE

PROJECTS = (RDMA_CORE, PERFTEST)


def steps_for_userland() -> int:
    """How many steps `userland` would take now, for the numbering."""
    return sum(steps_for(project) for project in PROJECTS)


def userland(steps: Steps) -> None:
    """Build all of it, if nobody has yet."""
    for project in PROJECTS:
        built(project, steps)
