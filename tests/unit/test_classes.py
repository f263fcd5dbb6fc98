"""A class is abstract, and says so by its name, or it is final: nothing derives from it and overrides what it does."""

import importlib
import inspect
import pkgutil

PACKAGES = ("device_models", "crossbar_sim", "calibration")
BASES = {
    "device_models.strict.StrictModel",  # base of all specifications, as BaseModel is of Pydantic's
    "device_models.errors.CrossbarError",
    "device_models.errors.UsageError",
    "crossbar_sim.kernels.compiling._OfAllFiles",  # mixed into classes of Numba
    # public names that were given before the rule
    "calibration.fit.Fit",
    "calibration.drift_laws.DriftLaw",
    "crossbar_sim.study.metrics.TextMetric",
    "crossbar_sim.mapping.plan.ModelPlan",
}
"""Classes that may be derived from without being called Abstract."""
HOOKS = {
    "StrictModel.path_root",
    "AbstractIVCurve.n_normals",
    "AbstractIVCurve.check_window",
    "AbstractPolarityAsymmetry.acts_on_inputs",
    "AbstractPolarityAsymmetry.output_factor",
    "AbstractPolarityAsymmetry.check_window",
    "AbstractFeatures.squares",
    "AbstractTable._reshaped",
    "AbstractTable.from_npz",
    "AbstractMetric.identity",
    "TextMetric.needs_digital",
    "TextMetric.finish",
}
"""Concrete methods that may be overridden: what most classes have in common, and few have otherwise."""


def _classes():
    for top in PACKAGES:
        package = importlib.import_module(top)
        for module in (package, *map(_load, pkgutil.walk_packages(package.__path__, f"{top}."))):
            yield from (each for each in vars(module).values() if isinstance(each, type) and _is_own(each))


def _load(info):
    return importlib.import_module(info.name)


def _is_own(cls):
    return cls.__module__.partition(".")[0] in PACKAGES


def _path(cls):
    return f"{cls.__module__}.{cls.__qualname__}"


CLASSES = {_path(cls): cls for cls in _classes()}


def _may_be_derived_from(path):
    return path in BASES or CLASSES[path].__name__.lstrip("_").startswith("Abstract")


def _overridden(cls):
    """Concrete methods and properties of classes above it that a class has another of, as Class.method."""
    for name, own in vars(cls).items():
        above = next((base for base in cls.__mro__[1:] if name in vars(base)), None)
        if above is None or not _is_own(above) or (name.startswith("__")):
            continue
        before = vars(above)[name]
        is_method = inspect.isroutine(own) or isinstance(own, property | classmethod | staticmethod)
        if is_method and not getattr(before, "__isabstractmethod__", False):
            yield f"{above.__name__}.{name}"


def test_classes_are_found():
    assert {"device_models.pcm_1m.Pcm1M", "crossbar_sim.chip.Chip", "calibration.fit.Fit"} <= CLASSES.keys()
    assert len(CLASSES) > 200


def test_only_abstract_classes_are_derived_from():
    steps = {(path, _path(base)) for path, cls in CLASSES.items() for base in cls.__bases__ if _is_own(base)}
    assert {(path, base) for path, base in steps if not _may_be_derived_from(base)} == set()


def test_a_class_that_cannot_be_made_is_called_abstract():
    unmade = {path for path, cls in CLASSES.items() if inspect.isabstract(cls) and not cls.__dict__.get("_is_protocol")}
    assert {path for path in unmade if not _may_be_derived_from(path)} == set()


def test_no_concrete_method_is_overridden():
    found = {(path, method) for path, cls in CLASSES.items() for method in _overridden(cls)}
    assert {(path, method) for path, method in found if method not in HOOKS} == set()


def test_what_is_overridden_is_noticed():
    class AbstractBase:
        def act(self):
            return 1

    class Derived(AbstractBase):
        def act(self):
            return 2

    AbstractBase.__module__ = "crossbar_sim.example"
    assert list(_overridden(Derived)) == ["AbstractBase.act"]
