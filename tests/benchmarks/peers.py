"""Other simulators on the same model: SmolLM2-135M-Instruct, all linear layers with the head, tiles of 512, 8-bit DAC
and ADC, the same text, one process; every time is a ratio to the digital fp32 model.

    make bench, or python tests/benchmarks/peers.py        needs the extra `bench`

What cannot run says why. They do not compute the same: the table says who computes what.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from typing import Any

import torch
from layers import TOKENS
from paired import RUNS, Ratio, machine, paired, publish, table
from torch import nn

import crossbar_sim as cs

BITS, BOUND, ROWS, MONTH_S = 8, 10.0, 512, 30 * 86400.0
STEPS = 2**BITS - 2
TEXT = "The memory of a chip that computes where it remembers drifts, and so does what it has been told. "
Row = tuple[str, str, str, str]


def row(who: str, work: str, computes: str, measure: Callable[[], object]) -> Row:
    """One line; a simulator that cannot do it says why in its place."""
    try:
        found = str(measure())
    except Exception as error:
        found = f"cannot run: {type(error).__name__}: {' '.join(str(error).split())[:120]}"
    print(f"{who:32} {work:40} {found}", flush=True)
    return who, work, found, computes


def forward(model: nn.Module, tokens: torch.Tensor) -> Callable[[], object]:
    def work() -> None:
        with torch.no_grad():
            model(tokens, use_cache=False)

    return work


def training_step(model: nn.Module, tokens: torch.Tensor) -> Callable[[], object]:
    """Forward and backward: cross-entropy loss, gradients of all parameters."""

    def work() -> None:
        model.zero_grad()
        model(tokens, labels=tokens, use_cache=False).loss.backward()

    return work


def lightning(digital: nn.Module, noise: float = 0.0) -> nn.Module:
    """A copy on aihwkit-lightning; weight noise relative to the largest weight of a column, drawn in training only."""
    from aihwkit_lightning.nn.conversion import convert_to_analog
    from aihwkit_lightning.simulator.configs import TorchInferenceRPUConfig
    from aihwkit_lightning.simulator.parameters.enums import WeightNoiseInjectionType

    config = TorchInferenceRPUConfig()
    config.mapping.max_input_size = ROWS
    config.forward.inp_res = config.forward.out_res = STEPS
    config.forward.out_bound = BOUND
    config.pre_post.input_range.enable = config.pre_post.input_range.dynamic = True
    if noise:
        config.modifier.noise_type = WeightNoiseInjectionType.ADD_NORMAL_PER_CHANNEL
        config.modifier.std_dev = noise
    converted: nn.Module = convert_to_analog(copy.deepcopy(digital), config, ensure_analog_root=False)
    return converted.train(bool(noise))


def aihwkit(digital: nn.Module, w_noise: float | None = None) -> nn.Module:
    """A copy on aihwkit: its torch tiles, or its native ones, which alone draw noise of the weights at each read."""
    from aihwkit.inference import GlobalDriftCompensation, PCMLikeNoiseModel
    from aihwkit.nn.conversion import convert_to_analog
    from aihwkit.simulator.configs import InferenceRPUConfig, TorchInferenceRPUConfig
    from aihwkit.simulator.parameters.enums import BoundManagementType, WeightNoiseType

    config = TorchInferenceRPUConfig() if w_noise is None else InferenceRPUConfig()
    config.mapping.max_input_size = config.mapping.max_output_size = ROWS
    config.mapping.weight_scaling_omega, config.mapping.weight_scaling_columnwise = 1.0, True
    config.forward.inp_res = config.forward.out_res = 1 / STEPS
    config.forward.out_bound, config.forward.out_noise = BOUND, 0.0
    config.forward.bound_management = BoundManagementType.NONE
    if w_noise is not None:
        config.forward.w_noise_type, config.forward.w_noise = WeightNoiseType.ADDITIVE_CONSTANT, w_noise
    config.noise_model = PCMLikeNoiseModel(g_max=25.0)
    config.drift_compensation = GlobalDriftCompensation()
    converted: nn.Module = convert_to_analog(copy.deepcopy(digital), config, ensure_analog_root=False)
    return converted.eval()


def inference(digital: Any, tokens: torch.Tensor) -> list[Row]:
    base = forward(digital, tokens)

    def against(model: nn.Module, runs: int = RUNS) -> Ratio:
        return paired(forward(model, tokens), base, runs)

    frozen, exact = (cs.ChipSpec.preset("pcm_1m").evolve(read_noise=kind) for kind in ("frozen", "split"))
    rows = []
    for name, spec in (("frozen", frozen), ("exact per-read noise of every device", exact)):
        mapped = cs.map_model(digital, spec)
        mapped.chip.set_time(MONTH_S)
        computes = f"device state, compensation, {name}"
        rows.append(row("crossbar-sim", "forward", computes, lambda m=mapped: against(m)))
    few = min(RUNS, 3)
    works = {"map and program": lambda: cs.map_model(digital, exact), "drift": partial(mapped.chip.set_time, MONTH_S)}
    for work, run in works.items():
        rows.append(row("crossbar-sim", work, "every device, reference read", partial(paired, run, base, few)))
    del mapped, works, run
    who = f"aihwkit-lightning {version('aihwkit-lightning')}"
    rows.append(row(who, "forward", "quantisation only", lambda: against(lightning(digital))))
    who = f"aihwkit {version('aihwkit')}, torch tiles"
    found: list[nn.Module] = []
    rows.append(row(who, "convert", "no devices yet", lambda: paired(lambda: found.append(aihwkit(digital)), base, 1)))
    if found:
        rows += aihwkit_state(who, found.pop(), tokens, base, few)
    who = f"aihwkit {version('aihwkit')}, native tiles"
    text = "quantisation, weight noise drawn at each read, the same for all devices"
    measure = lambda: paired(forward(aihwkit(digital, w_noise=0.01), tokens), base, 1)  # noqa: E731
    return [*rows, row(who, "forward", text, measure)]


def aihwkit_state(who: str, model: nn.Module, tokens: torch.Tensor, base: Callable[[], object], runs: int) -> list[Row]:
    """Its devices, and a forward through them."""
    from aihwkit.inference import drift_analog_weights, program_analog_weights

    works = {
        "program": lambda: program_analog_weights(model, None),
        "drift": lambda: drift_analog_weights(model, MONTH_S),
        "forward": forward(model, tokens),
    }
    text = "device state, quantisation"
    return [row(who, work, text, partial(paired, torch.no_grad()(run), base, runs)) for work, run in works.items()]


def training(digital: Any, tokens: torch.Tensor) -> list[Row]:
    """Forward and backward in training mode against digital forward and backward."""
    base = training_step(digital.train(), tokens)
    mapped = cs.map_model(digital, cs.ChipSpec.preset("pcm_1m").evolve(read_noise="frozen"), backend="torch").train()
    mapped.chip.set_time("1d")
    work, few = "forward and backward", min(RUNS, 5)
    rows = [row("crossbar-sim, torch backend", work, "device state, frozen",
                lambda: paired(training_step(mapped, tokens), base, few))]  # fmt: skip
    who = f"aihwkit-lightning {version('aihwkit-lightning')}"
    text = "quantisation, one Gaussian per weight and step"
    rows.append(row(who, work, text, lambda: paired(training_step(lightning(digital, 0.05), tokens), base, few)))
    return rows


def main() -> None:
    digital, tokenizer = cs.load_model()
    text = tokenizer(TEXT * 40, return_tensors="pt").input_ids[:, :TOKENS]
    rows = inference(digital, text) + training(digital, text)
    head = ("simulator", "work", "digital forwards, or forwards with backward", "what it computes")
    publish("peers", f"{machine()}; {text.shape[1]} tokens of text, tiles of {ROWS}.\n\n{table(head, rows)}")


if __name__ == "__main__":
    main()
