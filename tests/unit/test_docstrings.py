"""Docstrings: every public name has one, it begins with a sentence, and what it says to be tested is tested."""

import ast
import importlib
import inspect
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("device_models", "crossbar_sim", "calibration")
SECTIONS = {"Equation", "Arguments", "Returns", "Valid", "Errors", "Cost", "Source", "Sources", "Test"}
"""The template of a law: each begins a line, two spaces or more ahead of its text."""
SECTIONS_OF_ONE = {"Columns", "Intervals", "Noise", "Order", "Reads", "Scope", "Split", "Tests"}
"""What only one kind of law or fit has to say; `Tests` are those of statistics."""
NAMED_TEST = re.compile(r"\btests/[\w/.*-]*[\w*](?:::\w+[*<]?)?")


def _docstrings():
    """(where, docstring) of every module, class and function that has one."""
    for path in (path for top in PACKAGES for path in sorted((ROOT / top).rglob("*.py"))):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                text = ast.get_docstring(node)
                if text is not None:
                    yield f"{path.relative_to(ROOT)}: {getattr(node, 'name', 'the module')}", text


DOCSTRINGS = list(_docstrings())


def _sections(text):
    return re.findall(r"^([A-Z][a-z]+)  +\S", text, re.MULTILINE)


def _is_there(test):
    """Whether a test exists that is named as path, path::function or, with * or <what>, as several."""
    path, _, function = test.replace("<", "*").partition("::")
    files = list(ROOT.glob(path))
    wanted = rf"^def {function.removesuffix('*')}{'' if function.endswith('*') else '[(]'}"
    return bool(files) and (
        not function or any(re.search(wanted, file.read_text(encoding="utf-8"), re.MULTILINE) for file in files)
    )


@pytest.mark.parametrize("package", [*PACKAGES, "crossbar_sim.spec", "crossbar_sim.mapping", "device_models.effects"])
def test_every_public_name_has_a_docstring(package):
    module = importlib.import_module(package)
    public = {name: getattr(module, name) for name in module.__all__}
    documented = {name: each for name, each in public.items() if inspect.isclass(each) or inspect.isroutine(each)}
    assert documented
    # a class without one would show that of the class above it, and a NamedTuple its fields
    assert {
        name
        for name, each in documented.items()
        if not each.__doc__ or (inspect.isclass(each) and not ("__doc__" in vars(each) and " " in each.__doc__))
    } == set()


def test_docstrings_begin_with_a_sentence():
    assert len(DOCSTRINGS) > 1000
    assert [where for where, text in DOCSTRINGS if not text.split("\n\n")[0].endswith((".", ":"))] == []


def test_sections_are_those_of_the_template():
    found = [(where, section) for where, text in DOCSTRINGS for section in _sections(text)]
    assert sum(section == "Equation" for _, section in found) > 50
    assert [(where, section) for where, section in found if section not in SECTIONS | SECTIONS_OF_ONE] == []


def test_tests_that_docstrings_name_exist():
    named = [(where, test) for where, text in DOCSTRINGS for test in NAMED_TEST.findall(text)]
    assert len(named) > 20
    assert [(where, test) for where, test in named if not _is_there(test)] == []


def test_tests_that_pages_name_exist():
    pages = [ROOT / "README.md", ROOT / "device_models/README.md", *(ROOT / "docs").rglob("*.md")]
    named = [(page.name, test) for page in pages for test in NAMED_TEST.findall(page.read_text(encoding="utf-8"))]
    assert len(named) > 20
    assert [(page, test) for page, test in named if not _is_there(test)] == []


def test_what_is_missing_is_noticed():
    assert _is_there("tests/unit/test_docstrings.py")
    assert _is_there("tests/unit/test_docstr*.py::test_what_is_*")
    assert not _is_there("tests/unit/test_docstring.py")
    assert not _is_there("tests/unit/test_docstrings.py::test_what_is")
    assert _sections("Law.\n\nEquation   y = x\nOrder\nTest  here\n    Not  this") == ["Equation", "Test"]
