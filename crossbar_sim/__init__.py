"""Large language models on analog in-memory-computing chips: device physics to perplexity over time.

    import crossbar_sim as cs
    spec = cs.ChipSpec.preset("hermes_2d")
    mapped = cs.map_model(model, chip=spec, seed=0)
    mapped.chip.set_time("30d")

Importing this package is light; torch, transformers and matplotlib are loaded when something needs them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from device_models.errors import (
    CrossbarError,
    InertOptionWarning,
    SpecError,
    StateError,
    StoreError,
    UsageError,
    nearest,
)

if TYPE_CHECKING:
    from crossbar_sim.bridge.adc_bound import calibrate_adc_bound, calibrate_adc_bounds
    from crossbar_sim.bridge.checkpointing import checkpoint_contexts
    from crossbar_sim.bridge.convert import map_model, plan_model
    from crossbar_sim.bridge.hf import load_model
    from crossbar_sim.bridge.load import load_chip
    from crossbar_sim.bridge.trainer import WriteDevices
    from crossbar_sim.bridge.writing import write_after_step
    from crossbar_sim.chip import Chip
    from crossbar_sim.spec import ChipSpec
    from crossbar_sim.study.fidelity import FidelityReport, fidelity_report
    from crossbar_sim.study.metrics import (
        AbstractMetric,
        DigitalReference,
        KLToDigital,
        MetricContext,
        MultipleChoice,
        NextTokenAccuracy,
        Perplexity,
        evaluate,
    )
    from crossbar_sim.study.sweep import Scenario, SweepResult, sweep
    from crossbar_sim.tile import Tile

__version__ = "0.1.0"

_LAZY = {
    "AbstractMetric": "crossbar_sim.study.metrics",
    "Chip": "crossbar_sim.chip",
    "ChipSpec": "crossbar_sim.spec",
    "DigitalReference": "crossbar_sim.study.metrics",
    "FidelityReport": "crossbar_sim.study.fidelity",
    "KLToDigital": "crossbar_sim.study.metrics",
    "MetricContext": "crossbar_sim.study.metrics",
    "MultipleChoice": "crossbar_sim.study.metrics",
    "NextTokenAccuracy": "crossbar_sim.study.metrics",
    "Perplexity": "crossbar_sim.study.metrics",
    "Scenario": "crossbar_sim.study.sweep",
    "SweepResult": "crossbar_sim.study.sweep",
    "Tile": "crossbar_sim.tile",
    "WriteDevices": "crossbar_sim.bridge.trainer",
    "calibrate_adc_bound": "crossbar_sim.bridge.adc_bound",
    "calibrate_adc_bounds": "crossbar_sim.bridge.adc_bound",
    "checkpoint_contexts": "crossbar_sim.bridge.checkpointing",
    "evaluate": "crossbar_sim.study.metrics",
    "fidelity_report": "crossbar_sim.study.fidelity",
    "load_chip": "crossbar_sim.bridge.load",
    "load_model": "crossbar_sim.bridge.hf",
    "map_model": "crossbar_sim.bridge.convert",
    "plan_model": "crossbar_sim.bridge.convert",
    "sweep": "crossbar_sim.study.sweep",
    "write_after_step": "crossbar_sim.bridge.writing",
}

__all__ = [
    "AbstractMetric",
    "Chip",
    "ChipSpec",
    "CrossbarError",
    "DigitalReference",
    "FidelityReport",
    "InertOptionWarning",
    "KLToDigital",
    "MetricContext",
    "MultipleChoice",
    "NextTokenAccuracy",
    "Perplexity",
    "Scenario",
    "SpecError",
    "StateError",
    "StoreError",
    "SweepResult",
    "Tile",
    "UsageError",
    "WriteDevices",
    "calibrate_adc_bound",
    "calibrate_adc_bounds",
    "checkpoint_contexts",
    "evaluate",
    "fidelity_report",
    "load_chip",
    "load_model",
    "map_model",
    "plan_model",
    "sweep",
    "write_after_step",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}{nearest(name, __all__)}")
    return getattr(import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
