"""constraints.txt pins all that pyproject.toml asks for, and `make` installs nothing without it but pip itself."""

import re
import tomllib
from pathlib import Path

import pytest

requirements = pytest.importorskip("packaging.requirements")
utils = pytest.importorskip("packaging.utils")

REPOSITORY = Path(__file__).parents[2]
PINS = dict(
    line.split("==") for line in REPOSITORY.joinpath("constraints.txt").read_text().splitlines() if line[:1] != "#"
)
PYPROJECT = tomllib.loads(REPOSITORY.joinpath("pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
ASKED = sorted(
    {
        *PROJECT["dependencies"],
        *PYPROJECT["build-system"]["requires"],
        *(one for extra in PROJECT["optional-dependencies"].values() for one in extra),
        *(one for group in PYPROJECT["dependency-groups"].values() for one in group if isinstance(one, str)),
    }
)


@pytest.mark.parametrize("asked", [one for one in ASKED if not one.startswith(PROJECT["name"])])
def test_every_requirement_is_pinned_to_a_version_that_it_allows(asked):
    requirement = requirements.Requirement(asked)

    assert requirement.specifier.contains(PINS[utils.canonicalize_name(requirement.name)])


def test_constraints_are_names_and_versions_in_order_and_nothing_else():
    lines = REPOSITORY.joinpath("constraints.txt").read_text().splitlines()
    pins = [line for line in lines if not line.startswith("#")]

    assert pins == sorted(pins)
    for pin in pins:
        assert re.fullmatch(r"[a-z0-9]+(?:-[a-z0-9]+)*==[0-9][a-z0-9.]*", pin), pin
    assert len(PINS) == len(pins)


def test_make_installs_nothing_without_the_constraints_but_pip():
    makefile = REPOSITORY.joinpath("Makefile").read_text()
    recipes = dict(re.findall(r"^([\w-]+):\n((?:\t.*\n)+)", makefile, re.MULTILINE))

    assert re.findall(r"\$\(PIP\)(.*)", makefile) == [
        " --constraint constraints.txt --build-constraint constraints.txt",
        " --upgrade pip",
    ]
    assert makefile.count("pip install") - recipes["sdist"].count("pip install") == 1
    for name in ("PIP_CONSTRAINT", "PIP_BUILD_CONSTRAINT"):  # other processes install there
        assert f"\nsdist: export {name} := $(CURDIR)/constraints.txt\n" in makefile
