"""The soft-RoCE provider of ours, and ibv_devinfo: rdma-core's source with our patches.

Guests have them mounted over the distribution's; the package diverts those.
"""

import re
import shutil
import subprocess
from pathlib import Path

from twostep.patched import Building, Project, compiler_env
from twostep.paths import SRC
from twostep.problem import Problem

USERSPACE = SRC / "userspace"
OURS = USERSPACE / "rdma-core"
PACKAGE = "twostep-rxe-provider"
REVISION = "1"  # of the package; raise it with any change that its users are to get

PROVIDER = "usr/lib/x86_64-linux-gnu/libibverbs/librxe-rdmav34.so"
DEVINFO = "usr/bin/ibv_devinfo"
MANUAL = "usr/share/man/man7/rxe_odp.7"
INSTEAD = (PROVIDER, DEVINFO)  # of the distribution's files of these names


def _compile(building: Building, out: Path) -> None:
    """Compile the provider and ibv_devinfo, with the flags that Debian has for both."""
    env = dict(compiler_env(), DEB_BUILD_MAINT_OPTIONS="hardening=+all")
    flags = {
        name: subprocess.run(
            ["dpkg-buildflags", "--get", name],
            env=env, stdout=subprocess.PIPE, text=True, check=True,
        ).stdout.strip()
        for name in ("CFLAGS", "CPPFLAGS", "LDFLAGS")
    }  # fmt: skip
    options = {
        "CMAKE_BUILD_TYPE": "Release",
        "CMAKE_C_FLAGS": f"{flags['CFLAGS']} {flags['CPPFLAGS']}",
        "CMAKE_SHARED_LINKER_FLAGS": flags["LDFLAGS"],
        "CMAKE_MODULE_LINKER_FLAGS": flags["LDFLAGS"],
        "CMAKE_EXE_LINKER_FLAGS": flags["LDFLAGS"],
        "CMAKE_SKIP_RPATH": "ON",
        "NO_PYVERBS": "1",
        "NO_MAN_PAGES": "1",
    }
    defines = [f"-D{name}={value}" for name, value in options.items()]
    failure = "the soft-RoCE provider does not build"
    building.run(
        ["cmake", "-S", str(building.tree), "-B", str(out), "-G", "Ninja", "-Wno-dev", *defines],
        failure, env,
    )  # fmt: skip
    targets = [f"lib/{Path(PROVIDER).name}", "bin/ibv_devinfo"]
    building.run(["ninja", "-C", str(out), *targets], failure, env)


def _required(library: Path) -> set[str]:
    """The versions of libibverbs' interface that LIBRARY asks for."""
    words = ["objdump", "-p", str(library)]
    said = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True).stdout
    return set(re.findall(r"\bIBVERBS_\S+", said))


def _require_same_abi(built: Path, packaged: Path) -> None:
    """Refuse a provider that the packaged libibverbs would not load as it loads its own."""
    wanted, needed = _required(packaged), _required(built)
    if needed != wanted:
        raise Problem(
            f"the soft-RoCE provider needs {', '.join(sorted(needed))} of libibverbs, "
            f"the packaged one {', '.join(sorted(wanted))}"
        )
    words = ["ldd", "--function-relocs", str(built)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    text = done.stdout + done.stderr
    missing = re.search(r"undefined symbol: (?P<symbol>\S+)|(?P<library>\S+) => not found", text)
    if missing:
        name = missing["symbol"] or missing["library"]
        raise Problem(f"the soft-RoCE provider needs {name}, which this system does not have")


def _install(tree: Path, out: Path, root: Path) -> None:
    for file in (root / name for name in (PROVIDER, DEVINFO, MANUAL)):
        file.parent.mkdir(parents=True, exist_ok=True)
    strip = ["strip", "--strip-unneeded", "-o"]
    library = out / "lib" / Path(PROVIDER).name
    _require_same_abi(library, Path("/") / PROVIDER)
    subprocess.run([*strip, root / PROVIDER, library], check=True)
    (root / PROVIDER).chmod(0o644)
    subprocess.run([*strip, root / DEVINFO, out / "bin/ibv_devinfo"], check=True)
    shutil.copyfile(tree / "providers/rxe/man/rxe_odp.7", root / MANUAL)


def _package(root: Path, version: str, folder: Path) -> None:
    """The files below ROOT as a .deb in FOLDER."""
    scratch = folder / "package"
    shutil.copytree(root, scratch)
    subprocess.run(["gzip", "-9n", scratch / MANUAL], check=True)
    control = scratch / "DEBIAN"
    control.mkdir()
    architecture = subprocess.run(
        ["dpkg", "--print-architecture"], stdout=subprocess.PIPE, text=True, check=True
    ).stdout.strip()
    words = {
        "VERSION": f"{version}+twostep{REVISION}",
        "BASE": version,
        "ARCHITECTURE": architecture,
        "FILES": " ".join(f"/{name}" for name in INSTEAD),
    }
    for template in ("control", "preinst", "postrm"):
        text = (OURS / "debian" / template).read_text(encoding="utf-8")
        text = re.sub(r"@(\w+)@", lambda match: words[match[1]], text)
        (control / template).write_text(text, encoding="utf-8")
        (control / template).chmod(0o644 if template == "control" else 0o755)
    deb = folder / f"{PACKAGE}_{words['VERSION']}_{architecture}.deb"
    build = ["dpkg-deb", "--root-owner-group", "--build", str(scratch), str(deb)]
    subprocess.run(build, stdout=subprocess.DEVNULL, check=True)
    shutil.rmtree(scratch)


def _build(building: Building) -> None:
    out = building.scratch / "out"
    _compile(building, out)
    root = building.out / "root"
    _install(building.tree, out, root)
    _package(root, building.version, building.out)


RDMA_CORE = Project(
    name="rdma-core",
    packaged="libibverbs1",
    result="soft-RoCE provider",
    patches=USERSPACE,
    inputs=(Path(__file__), OURS),
    build=_build,
)
