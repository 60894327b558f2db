"""perftest with our patches, packaged as Debian packages it.

Guests have its programs in /twostep/guest/perftest, beside the distribution's.
"""

import subprocess
from email.utils import formatdate
from pathlib import Path

from twostep.patched import Building, Project, compiler_env
from twostep.paths import SRC

OURS = SRC / "perftest-patches"
REVISION = "1"  # of the package; raise it with any change that its users are to get
PROGRAMS = "usr/bin"

CHANGE = """\
perftest ({version}) trixie; urgency=medium

  * On-demand paging measured: the patches of Twostep.

 -- Twostep <twostep@localhost>  {date}

"""


def _build(building: Building) -> None:
    tree = building.tree
    changelog = tree / "debian/changelog"
    version = f"{building.version}+twostep{REVISION}"
    change = CHANGE.format(version=version, date=formatdate(0))
    changelog.write_text(change + changelog.read_text(encoding="utf-8"), encoding="utf-8")
    env = dict(compiler_env(), DEB_BUILD_OPTIONS="nocheck noautodbgsym", SOURCE_DATE_EPOCH="0")
    # The lab root has what perftest needs; of build-essential it lacks the C++ compiler.
    script = 'cd "$1" && exec dpkg-buildpackage --build=binary --no-sign --no-check-builddeps'
    building.run(["sh", "-ec", script, "build", str(tree)], "perftest does not build", env)
    (deb,) = building.scratch.glob("*.deb")
    kept = building.out / deb.name
    deb.rename(kept)
    subprocess.run(["dpkg-deb", "-x", str(kept), str(building.out / "root")], check=True)


PERFTEST = Project(
    name="perftest",
    packaged="perftest",
    result="perftest that measures paging",
    patches=OURS,
    inputs=(Path(__file__), OURS),
    build=_build,
)
