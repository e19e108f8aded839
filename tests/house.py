"""The house: its rooms, their floors, the order of the files in each, and who may use which package.

test_architecture.py holds the code to this table. `make house` writes docs/house.md from it, and says how many boxes,
arrows and circles there are; `python tests/house.py FOLDER` counts those of any other package.
"""

from __future__ import annotations

import ast
import functools
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from evofool.base import registry

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "evofool"
PAGE = ROOT / "docs" / "house.md"


@dataclass(frozen=True)
class Room:
    """A room of the house.

    Attributes:
        floor: it may import rooms of lower floors, and no others.
        files: in their order: each may import those before it. What an `__init__.py` says comes last.
        only: of the lower floors, what it may import, where that is not all.
        never: of the lower floors, what it may not.
    """

    name: str
    floor: int
    purpose: str
    files: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    never: tuple[str, ...] = ()


def _files(text: str) -> tuple[str, ...]:
    return tuple(text.split())


ROOMS = (
    Room("errors", 0, "every way to refuse or fail, with its exit code"),
    Room("records", 0, "the frozen records that cross walls"),
    Room(
        "base",
        1,
        "what knows nothing of the search",
        _files(
            "streams addresses places provenance picture_files png sheets jit registry rng_compiled rng source usercode"
        ),
    ),
    Room("config", 2, "one YAML", _files("fields schedules sections introduced keys presets files designs")),
    Room("archive", 2, "what counts, and who holds which cell", _files("objectives scores cells state")),
    Room(
        "encoding",
        3,
        "what evolves, how it varies, how it becomes an image",
        _files(
            "fields contract arrays names numbers own table "
            "direct.genome direct.breeding "
            "cppn.activations cppn.graphs cppn.genome cppn.programs cppn.operators cppn.breeding "
            "drawing.portable drawing.reference drawing.compiled_colours drawing.compiled drawing.render "
            "drawing.smooth direct.kind cppn.kind kinds variation exchange"
        ),
    ),
    Room(
        "targets",
        3,
        "networks",
        _files(
            "specs contents preprocessing target classes ensemble soundness family numerics readout gradients "
            "zoo.imagenet zoo.weights zoo.writing zoo.folding zoo.trained zoo.lenet zoo.mlp zoo.resnet zoo.bagnet "
            "zoo.efficientnet_lite zoo.squeezenet zoo.torchvision_networks zoo.timm_networks zoo.python "
            "families opening zoo.head training.datasets training.losses training.train training.again "
            "training.provision checking.photographs training.heads checking.checks checking.filters"
        ),
    ),
    Room(
        "evaluate",
        4,
        "genomes in, scores out",
        _files(
            "memory settings room pool evaluator problem resolving inline "
            "over_ray.imports over_ray.cluster over_ray.nodes over_ray.failures over_ray.chunks over_ray.actor "
            "over_ray.roster over_ray.pool over_ray.opening opening sharing"
        ),
    ),
    Room(
        "store",
        4,
        "tables and the chain; reading a run",
        _files(
            "files schemas rows commits remote.objects remote.working_copy writing folders run restore view "
            "ancestry reader compaction salvage"
        ),
    ),
    Room(
        "search",
        5,
        "the closed circle",
        _files("stopping handles parents breeding loop asking"),
        never=("store", "evaluate.over_ray", "evaluate.opening"),
    ),
    Room(
        "report",
        5,
        "pictures from Parquet",
        _files(
            "sheet trends html accessor figures formula graph drawn watch screen "
            "pictures curves study_files findings charts data page"
        ),
        only=(
            *("errors", "records", "base", "store"),
            *("encoding.exchange", "encoding.kinds", "encoding.drawing.portable", "targets.zoo.imagenet"),
        ),
    ),
    Room(
        "runs",
        6,
        "a run from beginning to end",
        _files(
            "observers.observer observers.progress observers.tensorboard "
            "seeding agreement recording session runner designs replay verify"
        ),
        never=("report",),
    ),
    Room(
        "studies",
        7,
        "one question a file, named as its command; a study never imports another",
        _files(
            "shared.statistics shared.charts shared.bands shared.curves shared.tables shared.pictures shared.judging "
            "shared.chance shared.agreement shared.elites shared.rules shared.pace shared.canvases shared.regularisers "
            "shared.ascent_findings shared.climbing shared.ascent_rows study shared.readable shared.exciting "
            "shared.switches shared.kinship shared.likeness shared.phylogeny shared.album "
            "shared.fooling_class shared.protection shared.erasing shared.motifs shared.knockouts shared.losses "
            "shared.ablation_findings shared.changes shared.ablation_figure "
            "shared.verdicts shared.papers shared.protocols shared.replicating compare score transfer design"
        ),
    ),
    Room(
        "machines",
        7,
        "what machines can do for a run, and getting it onto them",
        _files(
            "probe sweep tune disk rehearsal plan launch submit doctor "
            "bench.genomes bench.continued bench.results bench.forward bench.workbench bench.over_ray "
            "bench.measuring bench"
        ),
    ),
    Room(
        "cli",
        8,
        "typing, printing",
        _files(
            "output completion options run resume status elites show report watch verify export merge compact "
            "study ascend targets targets.list targets.layers targets.check targets.import targets.train "
            "config config.show config.schema config.presets "
            "cluster cluster.doctor cluster.plan cluster.tune cluster.bench cluster.launch cluster.submit"
        ),
    ),
    Room("pandas", 9, "`import evofool.pandas`: what a DataFrame of elites can do"),
    Room("__init__", 9, "the public names, loaded when first used"),
    Room("__main__", 9, "the command `evofool`"),
)


def rows() -> set[str]:
    """The modules that rows of evofool/base/registry.py name, by their dotted names inside the package."""
    tables = [table for name, table in vars(registry).items() if name.isupper()]
    places = [row if isinstance(row, str) else row[-1] for table in tables for row in table.values()]
    return {place.partition(":")[0].partition(".")[2] for place in places}


def files_of(room: Room) -> tuple[str, ...]:
    """The files of a room in their order; last those that only a row of the registry names."""
    there = (row.partition(".") for row in rows() & modules().keys())
    named = {file for name, _, file in there if name == room.name and file}
    return (*room.files, *sorted(named - set(room.files))) if room.files else ()


# package -> the files or folders that may import it
THIRD_PARTIES: dict[str, tuple[str, ...]] = {
    "numpy": tuple(
        room.name for room in ROOMS if room.name not in ("errors", "config", "cli", "pandas", "__init__", "__main__")
    ),
    "torch": (
        "encoding.drawing.render",
        "encoding.drawing.smooth",
        "targets",
        "evaluate",
        "search.asking",
        "runs.observers.tensorboard",
        "runs.runner",
        "runs.verify",
        "studies.ascend",
        "studies.shared.canvases",
        "studies.shared.climbing",
        "studies.shared.regularisers",
        "machines.doctor",
        "machines.probe",
        "machines.bench.forward",
        "machines.bench.workbench",
    ),
    "numba": ("base.jit", "base.rng_compiled", "encoding.drawing.compiled"),
    "llvmlite": ("base.rng_compiled",),
    "torchvision": ("targets",),
    "safetensors": ("targets",),
    "mlxtend": ("targets.training",),
    "timm": ("targets",),
    "huggingface_hub": ("targets.zoo",),
    "ray": ("evaluate.over_ray", "machines.submit"),
    "grpc": ("evaluate.over_ray.cluster",),
    "deap": ("search",),
    "pydantic": ("config",),
    "pydantic_core": ("config.fields",),
    "yaml": ("config",),
    "pyarrow": ("store", "studies", "report.watch"),
    "obstore": ("store.remote.objects",),
    "PIL": ("base", "report.sheet", "report.html", "report.pictures", "targets.checking", "studies.shared.pictures"),
    "jinja2": ("report.html", "report.page"),
    "markupsafe": ("report.data", "report.page"),
    "pathspec": ("machines.submit",),
    "pandas": ("store.ancestry", "store.reader", "report", "studies"),
    "matplotlib": ("report.figures",),
    "scipy": ("studies.shared.statistics", "studies.shared.erasing", "studies.shared.motifs"),
    "typer": ("cli",),
    "rich": ("cli", "runs.observers.progress", "report.screen"),
    "IPython": ("runs.observers.progress",),  # that of the notebook; nobody needs to install it
}


@functools.cache
def modules(package: Path = PACKAGE) -> dict[str, Path]:
    """{dotted name inside the package: file}."""
    return {
        ".".join(path.relative_to(package).with_suffix("").parts).removesuffix(".__init__"): path
        for path in sorted(package.rglob("*.py"))
    }


@functools.cache
def imports(path: Path) -> frozenset[str]:
    """All that a file imports: modules, and names of them."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(found)


def inner_imports(path: Path, package: Path = PACKAGE) -> set[str]:
    """The modules of the package that a file imports, by their dotted names inside it."""
    names, known = set(), modules(package)
    for imported in imports(path):
        head, _, inner = imported.partition(".")
        while head == package.name and inner:
            if inner in known:
                names.add(inner)
                break
            inner = inner.rpartition(".")[0]
    return names


def is_in(name: str, places: tuple[str, ...]) -> bool:
    """Whether a module is one of these files, or in one of these folders."""
    return any(name == place or name.startswith(f"{place}.") for place in places)


def arrows(package: Path = PACKAGE) -> set[tuple[str, str]]:
    """(box, box it imports): boxes are the files and folders at the top of a package."""
    return {
        (name.split(".")[0], inner.split(".")[0])
        for name, path in modules(package).items()
        for inner in inner_imports(path, package)
        if name.split(".")[0] != inner.split(".")[0]
    }


def circles(package: Path = PACKAGE) -> list[list[str]]:
    """Files that import each other in a loop."""
    graph = {name: inner_imports(path, package) for name, path in modules(package).items()}
    reach = {name: _reached(graph, name) for name in graph}
    loops = {frozenset(other for other in reach[name] if name in reach[other]) for name in graph if name in reach[name]}
    return sorted(sorted(loop) for loop in loops)


def _reached(graph: dict[str, set[str]], start: str) -> set[str]:
    seen: set[str] = set()
    todo = list(graph[start])
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            todo += graph[name]
    return seen


def count(package: Path = PACKAGE) -> str:
    """Boxes, arrows, circles and lines of a package, in a sentence."""
    boxes = {name.split(".")[0] for name in modules(package) if name}
    loops = circles(package)
    lines = sum(len(path.read_text().splitlines()) for path in modules(package).values())
    shown = "".join(f"\n  {' <-> '.join(loop)}" for loop in loops)
    return f"{len(boxes)} boxes, {len(arrows(package))} arrows, {len(loops)} circles, {lines:,} lines{shown}"


def _first_sentence(path: Path) -> str:
    text = " ".join((ast.get_docstring(ast.parse(path.read_text())) or "").split("\n\n")[0].split())
    return text.replace("|", "\\|")


def _may_import(room: Room) -> str:
    below = [other.name for other in ROOMS if other.floor < room.floor]
    if room.only:
        return ", ".join(f"`{name}`" for name in room.only)
    if not below:
        return "nothing"
    return "all below" + (" but " + ", ".join(f"`{name}`" for name in room.never) if room.never else "")


def _lines() -> Iterator[str]:
    yield "# The house"
    yield ""
    yield "Written by `make house` from the table in `tests/house.py`, to which a test holds the code: a room imports"
    yield "rooms of lower floors only, a file of a room those that stand before it here, and there is no circle."
    yield ""
    boxes = {name.split(".")[0] for name in modules() if name}
    yield f"{len(boxes)} boxes, {len(arrows())} arrows, {len(circles())} circles."
    yield ""
    yield "| floor | room | what happens there | may import |"
    yield "|---|---|---|---|"
    for room in ROOMS:
        name = f"{room.name}/" if room.files else f"{room.name}.py"
        yield f"| {room.floor} | `{name}` | {room.purpose} | {_may_import(room)} |"
    for room in ROOMS:
        if not room.files:
            continue
        yield ""
        yield f"## {room.name}/"
        yield ""
        yield "| file | |"
        yield "|---|---|"
        for file in room.files:
            path = modules()[f"{room.name}.{file}"]
            yield f"| `{path.relative_to(PACKAGE / room.name)}` | {_first_sentence(path)} |"
    yield ""
    yield "## Packages from elsewhere"
    yield ""
    yield "| package | only in |"
    yield "|---|---|"
    for package, places in THIRD_PARTIES.items():
        everywhere = len(places) > 10
        yield f"| {package} | {'everywhere' if everywhere else ', '.join(f'`{place}`' for place in places)} |"


def page() -> str:
    """docs/house.md."""
    return "\n".join(_lines()) + "\n"


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(count(Path(sys.argv[1])))
    else:
        PAGE.write_text(page())
        print(f"{PAGE.relative_to(ROOT)}: {count()}")
