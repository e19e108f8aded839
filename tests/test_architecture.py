"""The house: a module imports from lower floors only, and heavy packages only in their rooms (design: "The house")."""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
from pathlib import Path

import pytest

import evofool

PACKAGE = Path(evofool.__file__).parent

# room -> floor; a module belongs to the longest entry that is its name or its package.
FLOORS = {
    "errors": 0,
    "rng": 0,
    "jit": 0,
    "rng_compiled": 0,
    "config": 0,
    "records": 0,
    "scores": 0,
    "source": 0,
    "addresses": 0,
    "machine": 0,
    "pictures": 0,
    "places": 0,
    "usercode": 0,
    "objectives": 0,
    "encoding": 1,
    "variation": 2,
    "targets": 3,
    "evaluate": 4,
    "archive": 5,
    "store": 5,
    "breeding": 6,
    "operators": 6,
    "search": 6,
    "stopping": 6,
    "session": 7,
    "runner": 7,
    "replaying": 7,
    "verification": 7,
    "scoring": 7,
    "probe": 8,
    "rehearsal": 8,
    "planning": 8,
    "sweep": 8,
    "tuning": 8,
    "benching": 8,
    "studies": 8,
    "report": 8,
    "observers": 0,  # the base class: told by the runner, knows records and config
    "observers.progress": 9,
    "doctor": 9,
    "launch": 9,
    "submit": 9,
    "table": 8,
    "output": 8,
    "cli": 9,
    "__init__": 9,
    "__main__": 10,
}

# package -> the only rooms that may import it
ROOMS = {
    "torch": {
        "encoding.render",
        "targets",
        "evaluate",
        "runner",
        "verification",
        "doctor",
        "probe",
        "benching.forward",
    },
    "numba": {"jit", "encoding.compiled", "rng_compiled"},
    "llvmlite": {"rng_compiled"},
    "torchvision": {"targets"},
    "safetensors": {"targets"},
    "mlxtend": {"targets"},
    "timm": {"targets"},
    "huggingface_hub": {"targets"},
    "skimage": {"targets"},
    "sklearn": {"targets"},
    "matplotlib": {"report"},
    "ray": {
        "evaluate.ray_pool",
        "evaluate.ray_actor",
        "evaluate.ray_cluster",
        "evaluate.ray_failures",
        "evaluate.ray_nodes",
        "evaluate.ray_roster",
        "submit",
    },
    "grpc": {"evaluate.ray_cluster"},
    "deap": {"search"},
    "pydantic": {"config"},
    "yaml": {"config"},
    "pyarrow": {"store"},
    "obstore": {"store.objects"},
    "PIL": {"pictures", "store", "report", "targets", "studies"},
    "pandas": {"store", "report", "table", "studies"},
    "scipy": {"table"},
    "typer": {"cli"},
    "rich": {"output", "observers.progress"},
}


@functools.cache
def modules() -> dict[str, Path]:
    return {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): path
        for path in sorted(PACKAGE.rglob("*.py"))
    }


def room(name: str) -> str:
    parts = name.split(".")
    return next((".".join(parts[:n]) for n in range(len(parts), 0, -1) if ".".join(parts[:n]) in FLOORS), "")


@functools.cache
def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("name", modules())
def test_every_module_has_a_floor_and_imports_only_downwards(name: str) -> None:
    assert room(name), f"{name} has no row in FLOORS"
    for imported in imports(modules()[name]):
        inner = imported.removeprefix("evofool.")
        if not imported.startswith("evofool.") or not room(inner) or inner not in modules():
            continue
        here, there = room(name), room(inner)
        same_room = here.split(".")[0] == there.split(".")[0]
        assert same_room or FLOORS[there] <= FLOORS[here], (
            f"{name} (floor {FLOORS[here]}) imports {inner} ({FLOORS[there]})"
        )


@pytest.mark.parametrize("name", modules())
def test_third_parties_are_used_only_in_their_rooms(name: str) -> None:
    for imported in imports(modules()[name]):
        allowed = ROOMS.get(imported.split(".")[0])
        if allowed is not None:
            assert any(name == r or name.startswith(f"{r}.") for r in allowed), f"{name} imports {imported}"


def test_no_module_imports_what_would_unpickle_files() -> None:
    forbidden = {"pickle", "marshal", "shelve", "ray.data", "ray.tune", "torch.hub", "torch.jit"}
    for name, path in modules().items():
        assert not imports(path) & forbidden, name


def test_importing_evofool_loads_nothing_heavy() -> None:
    code = "import sys, evofool.cli; print([m for m in ('torch', 'ray', 'pandas', 'pyarrow') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_every_exported_name_is_there() -> None:
    for name in evofool.__all__:
        assert getattr(evofool, name) is not None
