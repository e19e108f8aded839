"""The code is laid out as the table of house.py says."""

from __future__ import annotations

import ast
import subprocess
import sys

import house

import evofool

ROOMS = {room.name: room for room in house.ROOMS}


def room_of(name: str) -> house.Room:
    return ROOMS[name.split(".")[0] or "__init__"]


def place_in_room(name: str) -> int:
    """How many files of its room come before a module; an `__init__.py` comes after what is in its folder."""
    room, _, file = name.partition(".")
    files = house.files_of(ROOMS[room])
    last = max((i for i, other in enumerate(files) if other.startswith(file)), default=0)
    return files.index(file) if file in files else last


def test_the_table_names_every_file_and_no_other() -> None:
    named = {
        f"{room.name}.{file}" if file else room.name for room in house.ROOMS for file in house.files_of(room) or [""]
    }
    folders = {name for name, path in house.modules().items() if path.name == "__init__.py"}
    assert named - {"__init__"} <= set(house.modules())
    assert set(house.modules()) - named - folders == set()


def test_a_file_imports_lower_rooms_and_the_files_before_it() -> None:
    for name, path in house.modules().items():
        here = room_of(name)
        for imported in house.inner_imports(path):
            there, arrow = room_of(imported), f"{name} -> {imported}"
            if there is here and here.files:
                assert place_in_room(imported) < place_in_room(name) or imported.startswith(f"{name}."), arrow
                continue
            assert there.floor < here.floor, f"{arrow}: floors {here.floor} and {there.floor}"
            assert not here.only or house.is_in(imported, here.only), arrow
            assert not house.is_in(imported, here.never), arrow


def test_a_study_imports_no_other() -> None:
    studies = {name for name in house.rows() if name.startswith("studies.")}
    assert len(studies) >= 3
    for name in studies:
        assert not house.inner_imports(house.modules()[name]) & (studies - {name}), name


def test_there_is_no_circle() -> None:
    assert house.circles() == []


def test_packages_from_elsewhere_are_used_where_the_table_lists_them_and_only_there() -> None:
    users: dict[str, list[str]] = {package: [] for package in house.THIRD_PARTIES}
    for name, path in house.modules().items():
        packages = {imported.split(".")[0] for imported in house.imports(path)}
        for package in packages - {"evofool"} - sys.stdlib_module_names:
            assert house.is_in(name, house.THIRD_PARTIES.get(package, ())), f"{name} imports {package}"
            users[package].append(name)
    for package, places in house.THIRD_PARTIES.items():
        for place in places:
            assert any(house.is_in(user, (place,)) for user in users[package]), f"{place} does without {package}"


def test_the_page_is_the_table() -> None:
    assert house.PAGE.read_text() == house.page(), "make house"


# Whoever needs a network or an encoding asks for an OpenTarget or a Problem.
MAKERS = {
    "load_target": {"targets.opening"},
    "configured": {"targets.opening"},
    "family_of": {"cli.targets.check", "cli.targets.list", "machines.launch", "targets.zoo.head"},
    "make_encoding": {"evaluate.problem", "store.reader"},
}


def test_targets_and_encodings_are_made_in_two_files_only() -> None:
    homes = {"targets.families", "encoding.kinds"}
    users: dict[str, set[str]] = {maker: set() for maker in MAKERS}
    for name, path in house.modules().items():
        for node in ast.walk(ast.parse(path.read_text())):
            used = getattr(node, "id", None) or getattr(node, "attr", None)
            if used in MAKERS and name not in homes:
                users[used].add(name)
    assert users == MAKERS


def test_no_module_imports_what_would_unpickle_files() -> None:
    forbidden = {"pickle", "marshal", "shelve", "ray.data", "ray.tune", "torch.hub", "torch.jit"}
    for name, path in house.modules().items():
        assert not any(house.is_in(imported, tuple(forbidden)) for imported in house.imports(path)), name


def test_importing_evofool_loads_nothing_heavy() -> None:
    heavy = ("torch", "ray", "pandas", "pyarrow", "scipy", "pathspec", "deap")
    code = f"import sys, evofool.cli; print([m for m in {heavy} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_every_exported_name_is_there() -> None:
    for name in evofool.__all__:
        assert getattr(evofool, name) is not None
