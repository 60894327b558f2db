"""Runs in the guest: what odp-tests promises of its options, outputs and statuses.

The program is one with tests besides, self.*, that end in every way.
"""

import json
import os
import re
import subprocess
import xml.etree.ElementTree as tree
from collections.abc import Callable
from pathlib import Path

PASSED, FAILED, BAD, SKIPPED = 0, 1, 2, 4
NOBODY = 65534


class Said:
    """How a run ended, and what it said."""

    def __init__(self, *options: str, user: int | None = None, **environment: str) -> None:
        done = subprocess.run(
            ["./self", *options],
            env={**os.environ, **environment},
            user=user,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
        self.status, self.out, self.err = done.returncode, done.stdout, done.stderr
        self.asked = " ".join(options)

    def ends(self, status: int) -> "Said":
        """It has this status."""
        assert self.status == status, (
            f"'{self.asked}' ended with {self.status}, not {status}:\n{self.out}{self.err}"
        )
        return self

    def has(self, pattern: str, where: str = "out") -> "Said":
        """A line of stdout, or of stderr, has this."""
        text = self.out if where == "out" else self.err
        assert re.search(pattern, text, re.M), f"'{self.asked}' lacks /{pattern}/:\n{text}"
        return self

    def names(self) -> list[str]:
        """The tests, in the order in which they ran."""
        return re.findall(r"^(?:not )?ok \d+ (\S+)", self.out, re.M)


def bad_input() -> None:
    """One sentence on stderr, and status 2."""
    for options in (
        ["--mtu=17"],
        ["-m", "1024x"],
        ["-x", "-1"],
        ["--ib-port=0"],
        ["--ib-port=9"],
        ["--gid-index=200"],
        ["-n", "0"],
        ["--repeat=many"],
        ["--seed="],
        ["--timeout-scale=0"],
        ["--ib-dev=mlx5_99"],
        ["--filter=nothing.*"],
        ["--junit=/nowhere/file"],
        ["--json=/nowhere/file"],
        ["--no-such-option"],
        ["dance"],
        ["run", "no.such.host."],
        ["run", "localhost", "twice"],
    ):
        said = Said(*options).ends(BAD)
        assert len(said.err.splitlines()) == 1, f"{options}: {said.err}"
        assert not said.names(), f"{options}: tests ran"
    Said(ODP_TESTS_MTU="17").ends(BAD).has("ODP_TESTS_MTU is '17'", "err")


def ends_of_tests() -> None:
    """Each end of a test's process is told apart."""
    said = Said("--filter=self.*-*.late").ends(FAILED)
    said.has(r"^KTAP version 1$").has(r"^1\.\.11$").has(r"^# seed \d+")
    said.has(r"^# device rxe0, port 1, GID 1 \(::ffff:[\d.]+\), MTU 1024$")
    said.has(r"^ok \d+ self.good$").has(r"^not ok \d+ self.bad #  a \"byte\" <is> & was 17$")
    said.has(r"^# wrong at the third step: a \"byte\"")
    said.has(r"^not ok \d+ self.crashes\b").has(r"^not ok \d+ self.exits\b")
    for who in ("kernel", "device", "library", "machine"):
        said.has(rf"^ok \d+ self.lacks.{who} # SKIP {who}: it has no \"such\" thing$")
    said.has(r"4 passed, 3 failed, 4 skipped", "err")
    said.has(r"FAILED self.crashes on rxe0: its process ended", "err")
    said = Said("--filter=self.*", "--fail-fast").ends(FAILED).has(r"^Bail out! self.bad failed$")
    assert said.names() == ["self.bad"]
    Said("--filter=self.good").ends(PASSED)
    Said("--filter=self.lacks.*").ends(SKIPPED)
    Said("--filter=self.lacks.*:self.good").ends(PASSED)


def required() -> None:
    """A skip of what is required fails; of the rest not."""
    only = "--filter=self.lacks.*"
    Said(only, "--require=self.lacks.device").ends(FAILED).has(
        r"^not ok \d+ self.lacks.device #  required, and skipped: device: it has"
    ).has(r"^ok \d+ self.lacks.kernel # SKIP")
    Said(only, "--require=rc,self.lacks").ends(FAILED).has("^not ok 4 ")
    Said(only, "--require=*").ends(FAILED)
    Said(only, "--require=self.lack").ends(SKIPPED)
    Said(only, ODP_TESTS_REQUIRE="self").ends(FAILED)


def filters() -> None:
    """As googletest has them."""
    assert Said("--filter=self.g*:self.b*").names() == ["self.bad", "self.by_root", "self.good"]
    assert Said("--filter=self.*-*a*:self.e*").names() == ["self.by_root", "self.good"]
    everything = Said("list").ends(PASSED).out.splitlines()
    assert len(everything) > 300, f"{len(everything)} tests"
    assert Said("--list", "--filter=-self.*").out.splitlines() == [
        line for line in everything if not line.startswith("self.")
    ]
    assert "self.by_root  (root)" in everything


def seeds() -> None:
    """A seed repeats a run, each test has its own sequence, whatever runs beside it."""
    drawn: Callable[[Said], dict[str, str]] = lambda said: dict(
        zip(said.names(), re.findall(r"^# drew (\w+)$", said.out, re.M), strict=True)
    )
    first = drawn(Said("--filter=self.draws.*", "--seed=7"))
    assert len(set(first.values())) == 2, "two tests draw the same"
    assert drawn(Said("--filter=self.draws.*", "--seed=7")) == first
    assert drawn(Said("--filter=self.draws.other", "--seed=7")) == {
        "self.draws.other": first["self.draws.other"]
    }
    assert drawn(Said("--filter=self.draws.*", "--seed=8")) != first
    said = Said("--filter=self.draws.one", "--seed=7", "--repeat=3").has(r"^1\.\.3$")
    assert len(set(re.findall(r"^# drew (\w+)$", said.out, re.M))) == 3, "rounds are the same"
    shuffled = "--filter=self.*-*.late", "--shuffle", "--seed=5", "--repeat=2"
    order = Said(*shuffled).names()
    assert order == Said(*shuffled).names(), "a seed does not repeat the order"
    assert order[:11] != order[11:], "both rounds have the same order"
    assert sorted(order[:11]) == sorted(order[11:]), "a round leaves tests out"


def late() -> None:
    """It is ended, with all that tells why."""
    said = Said("--filter=self.late").ends(FAILED)
    said.has(r"^# not done in 2 s, at: the wait$").has(r"^# thread \d+, in the kernel:$")
    said.has(r"^#   .*pause").has(r"^#   link rxe0/1 lqpn \d+ .* state RTS")
    said.has(r"^# registered memory:$").has(r"^#   Rss: +\d+ kB$").has(r"^# the kernel said:$")
    said.has(r"^# counters that are not 0:$")
    said.has(r"^not ok 1 self.late #  not done in 2 s, at: the wait$")
    said.has(r"FAILED self.late on rxe0: not done in 2 s, at: the wait", "err")
    Said("--filter=self.late", "--timeout-scale=2").has("not done in 4 s", "err")


def reports() -> None:
    """JUnit and JSON say the same as KTAP."""
    Said("--filter=self.*-*.late", "--junit=/tmp/j", "--json=/tmp/s", "--seed=9").ends(FAILED)
    found = json.loads(Path("/tmp/s").read_text(encoding="utf-8"))
    assert found["meta"]["seed"] == "9" and found["meta"]["kernel"] == os.uname().release
    results = {each["name"]: each for each in found["results"]}
    assert len(results) == 11
    assert results["self.bad"]["reason"] == 'a "byte" <is> & was 17'
    assert results["self.bad"]["outcome"] == "fail" and results["self.bad"]["device"] == "rxe0"
    assert results["self.lacks.library"]["lacking"] == "library"
    assert results["self.good"]["outcome"] == "pass" and "lacking" not in results["self.good"]
    (suite,) = tree.parse("/tmp/j").getroot()
    assert suite.attrib == {
        "name": "self", "tests": "11", "failures": "3", "skipped": "4", "errors": "0",
    }  # fmt: skip
    cases = {case.attrib["name"]: case for case in suite}
    (failure,) = cases["self.bad"]
    assert failure.tag == "failure" and failure.attrib["message"] == 'a "byte" <is> & was 17'
    (skipped,) = cases["self.lacks.device"]
    assert skipped.tag == "skipped" and not list(cases["self.good"])
    full = Said("--filter=self.good", "--json=/dev/full").ends(FAILED)
    full.has("/dev/full was not written: No space", "err")


def users_and_devices() -> None:
    """Without root only what needs it is left out; devices come from options or environment."""
    Said("--filter=self.good:self.by_root", user=NOBODY).ends(PASSED).has(
        r"^ok 1 self.by_root # SKIP machine: only root may do it$"
    )
    Said("--filter=self.good", ODP_TESTS_IB_DEV="nothing").ends(BAD)
    Said("--filter=self.good", "-d", "rxe0", ODP_TESTS_IB_DEV="nothing").ends(PASSED)
    Said("--filter=self.good", "--ib-dev=all").ends(PASSED)
    run = Said("--filter=self.good", "-d", "rxe0", "-d", "rxe0").ends(PASSED)
    assert run.names() == ["self.good"] * 2
    subprocess.run(["ip", "link", "set", "d0", "down"], check=True)
    Said("--filter=self.good").ends(BAD).has("no device has an active port", "err")
    Said("--filter=self.good", "-d", "rxe0").ends(BAD).has("rxe0 has no active port", "err")
    subprocess.run(["rdma", "link", "delete", "rxe0"], check=True)
    Said("--filter=self.good").ends(BAD).has("there is no RDMA device", "err")
    Said("info").ends(BAD).has("there is no RDMA device", "err")


for check in (
    bad_input,
    ends_of_tests,
    required,
    filters,
    seeds,
    late,
    reports,
    users_and_devices,
):
    check()
    print(f"{check.__name__}: as promised", flush=True)
