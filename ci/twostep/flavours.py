"""The kernels this project builds, and which parts each is made of."""

from dataclasses import dataclass

from twostep.problem import Problem


@dataclass(frozen=True)
class Flavour:
    """One kernel: a base source, with or without our parts, and its fragments."""

    name: str
    base: str  # "6.12", or "mainline": see source.py
    ours: bool  # overlay kernel/*/files and apply kernel/series
    fragments: tuple[str, ...]  # beyond the numbered ones, from kernel/config


FLAVOURS = {
    flavour.name: flavour
    for flavour in (
        Flavour("twostep", "6.12", True, ("base-6.12", "ours")),
        Flavour("stock", "6.12", False, ("base-6.12",)),
        Flavour("debug", "6.12", True, ("base-6.12", "ours", "debug")),
        Flavour("mainline", "mainline", False, ("base-mainline",)),
    )
}


def flavour(name: str) -> Flavour:
    """The flavour called NAME."""
    try:
        return FLAVOURS[name]
    except KeyError:
        raise Problem(
            f"unknown kernel flavour '{name}'; there are {', '.join(FLAVOURS)}", status=2
        ) from None
