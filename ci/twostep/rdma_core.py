"""The soft-RoCE provider of ours: rdma-core's packaged source with our patches, as a package.

A built one is a folder of the cache, rdma-core/KEY, with root/, the files as they are installed,
and the .deb that installs them. Guests have them mounted over the distribution's.
"""

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from twostep import apt
from twostep.assemble import assembled, series
from twostep.cache import file_digest, keep_newest, key, locked, publish, require_space
from twostep.paths import CACHE, SRC, lab_key, on_host
from twostep.problem import Problem
from twostep.progress import Step, Steps
from twostep.source import Source

USERSPACE = SRC / "userspace"
OURS = USERSPACE / "rdma-core"
PACKAGE = "twostep-rxe-provider"
REVISION = "1"  # of the package; raise it with any change that its users are to get
KEPT = 2
SPACE_GIB = 1

PROVIDER = "usr/lib/x86_64-linux-gnu/libibverbs/librxe-rdmav34.so"
DEVINFO = "usr/bin/ibv_devinfo"
MANUAL = "usr/share/man/man7/rxe_odp.7"
INSTEAD = (PROVIDER, DEVINFO)  # of the distribution's files of these names


@dataclass(frozen=True)
class Provider:
    """A built provider."""

    folder: Path

    @property
    def root(self) -> Path:
        """Its files below the names they are installed under."""
        return self.folder / "root"

    @property
    def package(self) -> Path:
        """The .deb."""
        (deb,) = self.folder.glob("*.deb")
        return deb


def version() -> str:
    """Of the rdma-core source that the lab root's libibverbs was built from."""
    words = ["dpkg-query", "-W", "-f", "${source:Version}", "libibverbs1"]
    return subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True).stdout


def _folder() -> Path:
    recipe = Path(__file__)
    ours = [path for path in sorted(OURS.rglob("*")) if path.is_file() and path.suffix != ".md"]
    inputs = [lab_key(), version()]
    for path in (recipe, USERSPACE / "series", *ours):
        inputs += [path.name, file_digest(path)]
    return CACHE / "rdma-core" / key(inputs)


def _download_folder() -> Path:
    return CACHE / "download" / f"rdma-core-{version()}"


def _finished(folder: Path) -> Provider | None:
    try:
        os.utime(folder / "complete")
        return Provider(folder)
    except FileNotFoundError:
        return None


def steps_for_provider() -> int:
    """How many steps `provider` would take now, for the numbering."""
    if _finished(_folder()):
        return 0
    return 1 if (_download_folder() / "complete").exists() else 2


@apt.alone()
def _download(step: Step, folder: Path, log: Path) -> None:
    """Fetch the source package into FOLDER."""
    options = apt.updated(step, log, "rdma-core's source", sources=True)
    new = folder.with_name(folder.name + ".new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    files = apt.download_source(step, log, options, f"rdma-core={version()}", new)
    publish(new / "complete", "".join(f"{digest}  {name}\n" for name, digest in files.items()))
    shutil.rmtree(folder, ignore_errors=True)
    new.rename(folder)


def _unpack(step: Step, folder: Path, tree: Path, log: Path) -> Source:
    """Unpack what was downloaded, with Debian's patches; refuse files that changed on disk."""
    check = ["sha256sum", "--check", "--strict", "complete"]
    if subprocess.run(check, cwd=folder, capture_output=True, check=False).returncode != 0:
        shutil.rmtree(folder)
        raise Problem(
            f"the cached download {on_host(folder)} is corrupt; it was removed",
            hint="run the same command again, it is then downloaded afresh",
        )
    script = (
        'tar -xf "$1"/*.orig.tar.* -C "$2" --strip-components=1'
        ' && tar -xf "$1"/*.debian.tar.* -C "$2" && cd "$2"'
        ' && for patch in $(cat debian/patches/series); do patch -p1 <"debian/patches/$patch"; done'
    )
    tree.mkdir()
    step.run(
        ["sh", "-ec", script, "unpack", str(folder), str(tree)],
        log,
        failure=f"rdma-core's source {version()} could not be unpacked",
    )
    return Source(tree, version(), version(), "rdma-core")


def _compile(step: Step, tree: Path, out: Path, log: Path) -> None:
    """Compile the provider and ibv_devinfo, with the flags that Debian has for both."""
    env = dict(os.environ, DEB_BUILD_MAINT_OPTIONS="hardening=+all", CCACHE_DIR=f"{CACHE}/ccache")
    env["PATH"] = f"/usr/lib/ccache:{env['PATH']}"
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
    step.run(
        ["cmake", "-S", str(tree), "-B", str(out), "-G", "Ninja", "-Wno-dev", *defines],
        log, failure=failure, env=env,
    )  # fmt: skip
    targets = [f"lib/{Path(PROVIDER).name}", "bin/ibv_devinfo"]
    step.run(["ninja", "-C", str(out), *targets], log, failure=failure, env=env)


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


def _package(root: Path, folder: Path) -> None:
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
        "VERSION": f"{version()}+twostep{REVISION}",
        "BASE": version(),
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


def _build(step: Step, folder: Path, log: Path) -> None:
    # Always the same place, for ccache.
    scratch = CACHE / "obj/rdma-core"
    shutil.rmtree(scratch, ignore_errors=True)
    new = folder.with_name(folder.name + ".new")
    for left in folder.parent.glob("*.new"):  # by an interrupted run
        shutil.rmtree(left, ignore_errors=True)
    new.mkdir(parents=True)
    scratch.mkdir(parents=True)
    tree, out = scratch / "src", scratch / "out"
    source = _unpack(step, _download_folder(), tree, log)
    for path, blob in assembled(source, series(USERSPACE)).items():
        if blob is None:
            (tree / path).unlink()
        else:
            blob.write(tree / path)
    _compile(step, tree, out, log)
    _install(tree, out, new / "root")
    _package(new / "root", new)
    shutil.rmtree(scratch)
    (new / "complete").touch()
    shutil.rmtree(folder, ignore_errors=True)
    new.rename(folder)


def provider(steps: Steps) -> Provider:
    """The provider of this checkout, built now if nobody has yet."""
    folder = _folder()
    done = _finished(folder)
    if done is not None:
        return done
    log = CACHE / "log/rdma-core.log"
    with locked(CACHE / "rdma-core", "the soft-RoCE provider"):
        done = _finished(folder)
        if done is not None:
            return done
        require_space(CACHE, SPACE_GIB, "the soft-RoCE provider")
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_bytes(b"")
        if not (_download_folder() / "complete").exists():
            step = steps.start(f"source of rdma-core {version()}")
            _download(step, _download_folder(), log)
            step.done()
        step = steps.start(f"soft-RoCE provider: rdma-core {version()}")
        _build(step, folder, log)
        keep_newest([each.parent for each in (CACHE / "rdma-core").glob("*/complete")], KEPT)
        step.done()
    return Provider(folder)
