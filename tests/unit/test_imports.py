"""Rooms of the house: a module imports only from rooms before its own, and importing the package is light."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import BaseModel

from crossbar_sim.kernels import compiling

ROOT = Path(__file__).parents[2]
WITH_A_CLOCK = [f"crossbar_sim.{name}" for name in ("expected", "summary", "store", "chip", "tile")]
ROOMS = [
    ["device_models"],
    ["crossbar_sim.spec"],
    ["crossbar_sim.mapping"],
    ["crossbar_sim.kernels"],
    ["crossbar_sim.devices"],
    ["crossbar_sim.circuit"],
    ["crossbar_sim.converters"],
    ["crossbar_sim.array"],
    WITH_A_CLOCK,
    ["crossbar_sim.bridge"],
    ["crossbar_sim.study"],
    ["calibration"],
    ["crossbar_sim.view", "crossbar_sim.cli_values", "crossbar_sim.cli_calibrate", "crossbar_sim.cli"],
]
ORDER = {name: number for number, names in enumerate(ROOMS) for name in names}
OWN = ("device_models", "crossbar_sim", "calibration")
ANYONE = "crossbar_sim.progress"
WHEN_ASKED = {
    ("crossbar_sim.study.sweep", "crossbar_sim.view.plots"),
    ("crossbar_sim.study.fidelity", "crossbar_sim.view.fidelity"),
}
"""A result loads the plots within the call that draws."""
FUSED = {
    ("crossbar_sim.kernels.mvm", f"crossbar_sim.converters.{name}")
    for name in ("adc", "elementwise", "output_stage", "static_errors")
}
"""The pass behind a GEMM has the laws of the converters compiled into it. These are the only steps to a later room."""


def _module(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {_module(path): path for room in OWN for path in sorted((ROOT / room).rglob("*.py"))}


def _room(name):
    """The room of a module; the package itself and progress stand in none."""
    return next((room for room in ORDER if name == room or name.startswith(f"{room}.")), None)


def _imports(path):
    """Every module that a file imports, inside functions as well, but not what only a type checker sees."""
    tree = ast.parse(path.read_text())
    hidden = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for statement in node.body
        for inner in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if node in hidden:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            module = node.module or ""
            submodules = [f"{module}.{alias.name}" for alias in node.names]
            yield from (name if name in MODULES else module for name in submodules)


def _top(name):
    return name.partition(".")[0]


def test_every_module_lies_in_a_room():
    outside = {name for name in MODULES if _room(name) is None}
    assert outside == {"crossbar_sim", ANYONE}
    assert {_room(name) for name in MODULES} >= set(ORDER) - {"crossbar_sim.cli"}


@pytest.mark.parametrize("name", [name for name in MODULES if _room(name)])
def test_a_module_imports_only_from_its_own_and_earlier_rooms(name):
    later = [
        other
        for other in _imports(MODULES[name])
        if _top(other) in OWN and other != ANYONE and ORDER.get(_room(other), 99) > ORDER[_room(name)]
    ]
    assert {(name, other) for other in later} == {step for step in WHEN_ASKED | FUSED if step[0] == name}


def test_kernels_see_no_pydantic_and_no_specification():
    """They take arrays and tables; tables are made of specifications in later rooms."""
    kernels = [path for name, path in MODULES.items() if _room(name) == "crossbar_sim.kernels"]
    taken = {
        (node.module, alias.name)
        for path in kernels
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and _top(node.module) in OWN
        for alias in node.names
    }
    assert ("crossbar_sim.mapping", "Layout") in taken
    assert [module for module, _ in taken if _room(module) == "crossbar_sim.spec"] == []
    found = [getattr(importlib.import_module(module), name) for module, name in taken]
    assert [each for each in found if isinstance(each, type) and issubclass(each, BaseModel)] == []


def test_files_that_kernels_are_compiled_from_are_watched():
    """Else a change of them would leave old kernels in use."""
    compiled = {name for name, path in MODULES.items() if "numba" in map(_top, _imports(path))}
    watched = {f"crossbar_sim.{room.name}" for room in compiling._ROOMS}
    assert all(room.is_dir() for room in compiling._ROOMS)
    assert {_room(name) for name in compiled} - {"calibration"} == watched
    assert [name for name in compiled if name.count(".") != 2 and _top(name) == "crossbar_sim"] == []


@pytest.mark.parametrize("name", [name for name in MODULES if _top(name) == "calibration"])
def test_calibration_knows_devices_and_specifications_only(name):
    rooms = {_room(other) for other in _imports(MODULES[name]) if _top(other) in OWN and other != ANYONE}
    assert rooms <= {"device_models", "crossbar_sim.spec", "calibration"}


def test_the_package_itself_and_progress_import_nothing_heavy():
    assert {other for other in _imports(MODULES["crossbar_sim"]) if _top(other) in OWN} == {"device_models.errors"}
    assert [other for other in _imports(MODULES[ANYONE]) if _top(other) in OWN] == []


@pytest.mark.parametrize(
    ("library", "rooms"),
    [
        ("torch", {"crossbar_sim.array", *WITH_A_CLOCK, "crossbar_sim.bridge", "crossbar_sim.study"}),
        ("numba", {*(f"crossbar_sim.{room.name}" for room in compiling._ROOMS), "calibration"}),
        ("pydantic", {"device_models", "crossbar_sim.spec", "calibration"}),
        ("transformers", {"crossbar_sim.bridge"}),
        ("matplotlib", {"crossbar_sim.view", "calibration"}),
    ],
)
def test_a_library_is_used_only_in_its_rooms(library, rooms):
    users = {name for name, path in MODULES.items() if library in map(_top, _imports(path))}
    assert users
    assert {name for name in users if _room(name) not in rooms} == set()


def test_no_modules_import_each_other_in_a_circle():
    todo = {
        name: {other for other in _imports(path) if other in MODULES and other != name}
        for name, path in MODULES.items()
    }
    while free := {name for name, needs in todo.items() if not needs & todo.keys()}:
        todo = {name: needs for name, needs in todo.items() if name not in free}
    assert todo == {}


HEAVY = {"torch", "transformers", "matplotlib", "numba", "pandas", "scipy"}


@pytest.mark.parametrize(
    ("statement", "heavy"),
    [
        ("import crossbar_sim", HEAVY),
        ("from crossbar_sim import ChipSpec; ChipSpec.preset('pcm_1m').explain()", HEAVY),
        ("import device_models", HEAVY),
        ("import calibration; calibration.Fit", HEAVY - {"pandas", "scipy"}),
        ("import calibration", HEAVY),
        ("import crossbar_sim.mapping", HEAVY),
        ("import crossbar_sim.kernels.mvm", HEAVY - {"numba", "scipy"}),
        ("import crossbar_sim.tile", {"transformers", "matplotlib", "pandas"}),
    ],
)
def test_importing_loads_nothing_heavy(statement, heavy):
    script = f"{statement}\nimport sys\nprint(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert "device_models" in loaded
    assert heavy & set(loaded) == set()


def test_every_public_name_can_be_had_and_a_mistyped_one_is_told_the_nearest():
    import crossbar_sim

    for name in crossbar_sim.__all__:
        assert getattr(crossbar_sim, name).__name__ == name
    assert set(crossbar_sim.__all__) <= set(dir(crossbar_sim))
    with pytest.raises(AttributeError) as caught:
        crossbar_sim.map_modle  # noqa: B018
    assert str(caught.value) == "module 'crossbar_sim' has no attribute 'map_modle'; nearest: \"map_model\""
