"""What each effect costs by itself: programming, ageing and forward of a chip with it, as ratios to the chip without.

    python tests/benchmarks/effects.py [devices | mapping | converters]

The layers are those of the first two blocks of SmolLM2-135M-Instruct, 7 million weights, each with 512 vectors that
it meets in the model; where programming them takes longer than 20 s, one projection (SLOW).
"""

from __future__ import annotations

import math
import sys
import warnings
from functools import cache
from typing import Any

import torch
from layers import TOKENS, Layers, smollm2_layers
from paired import RUNS as paired_runs
from paired import Ratio, machine, paired, publish, table

import crossbar_sim as cs

RUNS = min(3, paired_runs)
Effects = dict[str, tuple[cs.ChipSpec, dict[str, Any]]]
"""The chip without the effect, and what switches it on."""
BASE = cs.ChipSpec.preset("pcm_1m").evolve(read_noise="frozen")
NOISY = cs.ChipSpec.preset("pcm_1m")
TRAPS = {"amplitude": {"kind": "relative", "at_g_max": 0.05}, "tau_min_s": 1e-3, "tau_max_s": 1e5}
WRITE = {"sigma_write_uS": 0.1, "sigma_write_relative": 0.2}
VERIFY = {"kind": "program_verify", "alpha": 0.7, "tolerance_uS": 0.4, "max_pulses": 12, "sigma_read_uS": 0.2, **WRITE}
DESCENT = {"kind": "gradient_descent", "eta": 0.1, "batch": 32, "steps": 20, **WRITE}
AMPLITUDE = {"kind": "amplitude", "v_read_V": 0.2}
STUCK = {"device.faults": {"p_reset": 0.005, "p_set": 0.005}}
RERAM = cs.ChipSpec.preset("milo_rram").device
INL = tuple(tuple(0.3 * math.sin(code / 9 + shift) for code in range(254)) for shift in range(4))
CIRCUIT = {"sigma_cap": 0.01, "sigma_cmp": 0.001}

DEVICES: Effects = {
    "read noise: split": (BASE, {"read_noise": "split"}),
    "read noise: per read": (BASE, {"read_noise": "per_read"}),
    "read noise: off": (BASE, {"read_noise": None}),
    **{f"device: {kind}": (BASE, {"device": {"kind": kind}})
       for kind in ("ideal", "pcm_custom_drift", "pcm_afm", "pcm_joshi", "pcm_hermes", "pcm_state_independent",
                    "reram_wan", "reram_cmo", "sonos")},
    "device: rram_milo": (BASE, {"device": RERAM.evolve(iv=None)}),
    "device: generic": (BASE, {"device": cs.ChipSpec.preset("generic_independent").device}),
    "stuck devices": (BASE, STUCK),
    "stuck devices, partners retargeted": (BASE, {**STUCK, "programming": {"kind": "law", "retarget_stuck": True}}),
    "broken lines": (BASE, {"tile.faults": {"p_word_line": 0.005, "p_bit_line": 0.005}}),
    "temperature": (BASE, {"device.temperature": {"t_read_K": 330.0}}),
    "telegraph noise, one trap": (NOISY, {"device.telegraph": TRAPS}),
    "telegraph noise, one trap, also at zero": (
        NOISY, {"device.telegraph": {**TRAPS, "amplitude": {"kind": "absolute", "amplitude_uS": 0.5}}}),
    "telegraph noise, four traps": (NOISY, {"device.telegraph": {**TRAPS, "traps_per_device": 4}}),
    "polarity: device": (BASE, {"device.polarity": {"kind": "device", "sigma": 0.05}}),
    "polarity: state": (BASE, {"device.polarity": {"kind": "state"}, "device.g_max_uS": 15.0}),
    "polarity: global, inputs": (BASE, {"device.polarity": {"kind": "global", "a_in": 0.05}}),
    "polarity: global, column sums": (BASE, {"device.polarity": {"kind": "global", "a_out": 0.05}}),
    "I-V: linear inputs as voltages": (BASE, {"dac.encoding": AMPLITUDE}),
    "I-V: cubic": (BASE, {"dac.encoding": AMPLITUDE, "device.iv": {"kind": "cubic", "k3_per_V2": 1.0}}),
    "I-V: sinh": (BASE, {"dac.encoding": AMPLITUDE, "device.iv": {"kind": "sinh", "v0_V": 0.3}}),
    "programming: single shot": (BASE, {"programming": {"kind": "single_shot", "sigma_write": 0.05}}),
    "programming: write-verify": (BASE, {"programming": VERIFY}),
    "programming: gradient descent, 20 steps": (BASE, {"programming": DESCENT}),
}  # fmt: skip
MAPPING: Effects = {
    "encoding: two-sided pairs": (BASE, {"encoding.pair": "two_sided"}),
    "encoding: two equal devices": (BASE, {"encoding": {"devices": 2, "fill": "equal"}}),
    "encoding: two devices, one filled first": (BASE, {"encoding": {"devices": 2, "fill": "msf"}}),
    "encoding: two devices of significance 1, 4": (
        BASE, {"encoding": {"devices": 2, "fill": "significance", "significance": (1.0, 4.0)}}),
    "encoding: digital offset": (BASE, {"encoding": {"kind": "offset"}}),
    "encoding: reference column": (BASE, {"encoding": {"kind": "offset", "correction": "column"}}),
    "encoding: slices of 4 and 3 bits": (BASE, {"encoding": {"kind": "bit_slice"}}),
    "scale per tensor": (BASE, {"encoding.scale": "tensor"}),
    "scale per tile and column": (BASE, {"encoding.scale": "tile_column"}),
    "clipped weights": (BASE, {"encoding.clip": {"alpha": 2.5}}),
    "tiles of 256 x 256": (BASE, {"tile": {"rows": 256, "cols": 256}}),
    "tiles of 128 x 128": (BASE, {"tile": {"rows": 128, "cols": 128}}),
    "wires: closed form": (BASE, {"wires": {"max_c": None}}),
    "wires: closed form, split noise": (NOISY, {"wires": {"max_c": None}}),
    "wires: exact": (BASE, {"wires": {"model": "exact", "max_c": None}}),
}  # fmt: skip
CONVERTERS: Effects = {
    "DAC: off, ADC off": (BASE, {"dac": None, "adc": None}),
    "DAC: no rounding": (BASE, {"dac.bits": None}),
    "DAC: static range": (BASE, {"dac.range": {"kind": "static", "value": 10.0}}),
    "DAC: stochastic rounding": (BASE, {"dac.stochastic_rounding": True}),
    "DAC: bit-serial, each pass": (BASE, {"dac.encoding": {"kind": "bit_serial"}}),
    "DAC: bit-serial, once": (BASE, {"dac.encoding": {"kind": "bit_serial", "digitised": "once"}}),
    "DAC: split pulses": (BASE, {"dac.encoding": {"kind": "split_pwm"}}),
    "DAC: 2 phases": (BASE, {"dac.phases": 2}),
    "DAC: 4 phases": (BASE, {"dac.phases": 4}),
    "ADC: off": (BASE, {"adc": None}),
    **{f"ADC: {kind}": (BASE, {"adc": {"kind": kind}})
       for kind in ("asymmetric", "midrise", "cco", "ramp", "sar", "pipeline", "cyclic")},
    "ADC: cco, random phase": (BASE, {"adc": {"kind": "cco", "correction": "random_phase"}}),
    **{f"ADC: {kind}, unequal parts": (BASE, {"adc": {"kind": kind, **CIRCUIT}})
       for kind in ("ramp", "sar", "pipeline", "cyclic")},
    "ADC: tabulated, four converters": (BASE, {"adc": {"kind": "tabulated", "inl_lsb": INL}}),
    "ADC: stochastic rounding": (BASE, {"adc.stochastic_rounding": True}),
    "ADC: output noise": (BASE, {"adc.output_noise": 0.01}),
    "ADC: gain, offset and cubic": (BASE, {"adc.gain_sd": 0.01, "adc.offset_sd_lsb": 0.5, "adc.inl_cubic": 0.01}),
    "ADC: differential non-linearity": (BASE, {"adc.dnl_lsb": 0.2}),
    "output stage: S-shape": (BASE, {"output_stage": {"s_shape": {"compression": 0.1, "spread": 0.1}}}),
    "output stage: sense node": (BASE, {"output_stage": {"sense": {"load": 0.01, "offset_sd": 0.01}}}),
    "compensation: off": (BASE, {"compensation": None}),
    "compensation: column": (BASE, {"compensation": "column"}),
    "compensation: affine, 256 probes": (BASE, {"compensation": "affine"}),
    "compensation: global, exact reference": (BASE, {"compensation": {"kind": "global", "reference": "exact"}}),
}  # fmt: skip
PARTS = {"devices": DEVICES, "mapping": MAPPING, "converters": CONVERTERS}
VERBS = ("programming", "ageing", "forward")
SECOND = [name for part in PARTS.values() for name, (base, _) in part.items() if base == NOISY]
TIMES = {
    ("telegraph noise, four traps", "ageing"): "4 traps",
    ("programming: gradient descent, 20 steps", "programming"): "20 programmings and reads",
    ("DAC: bit-serial, each pass", "forward"): "7 reads",
    ("DAC: 4 phases", "forward"): "4 reads",
}
"""What an effect does several times, said beside what it costs."""
SLOW = ("wires: exact", "programming: gradient descent, 20 steps")


@cache
def the_layers(slow: bool) -> Layers:
    return smollm2_layers(1, "q_proj") if slow else smollm2_layers(2)


@cache
def the_base(base: cs.ChipSpec, slow: bool) -> Layers:
    return cs.map_model(the_layers(slow), base)


@torch.no_grad()
def measure(name: str, base: cs.ChipSpec, changes: dict[str, Any]) -> tuple[Ratio, Ratio, Ratio]:
    """Programming, ageing and forward of the chip with the effect relative to the one without."""
    slow = name in SLOW
    plain, other = the_base(base, slow), cs.map_model(the_layers(slow), base.evolve(**changes))
    return (
        paired(lambda: other.chip.reprogram(), lambda: plain.chip.reprogram(), RUNS),
        paired(lambda: other.chip.set_time("1d"), lambda: plain.chip.set_time("1d"), RUNS),
        paired(other, plain, RUNS),
    )


@torch.no_grad()
def digital_row(base: cs.ChipSpec) -> str:
    """The chip without further effects relative to the digital forward of the same layers."""
    digital, mapped = the_layers(False), the_base(base, False)
    works = (lambda: mapped.chip.reprogram(), lambda: mapped.chip.set_time("1d"), mapped)
    return ", ".join(str(paired(work, digital, RUNS)) for work in works)


def main() -> None:
    warnings.simplefilter("ignore", cs.InertOptionWarning)  # devices that do not change with time age all the same
    intro = (
        f"{machine()}; {RUNS} paired runs; {TOKENS} vectors a layer. Digital forwards of the same layers that "
        f"programming, ageing and a forward take without the effects: `pcm_1m` with frozen noise {digital_row(BASE)}; "
        f"`pcm_1m` as it is {digital_row(NOISY)}. Ratios are to the first, to the second for {', '.join(SECOND)}."
    )
    for part in sys.argv[1:] or PARTS:
        rows, cliffs = [], []
        for name, (base, changes) in PARTS[part].items():
            ratios = measure(name, base, changes)
            rows.append([name, *map(str, ratios)])
            print(*rows[-1], sep=" | ", flush=True)
            for verb, ratio in zip(VERBS, ratios, strict=True):
                if ratio.median > 3:
                    times = f", {TIMES[name, verb]}" if (name, verb) in TIMES else ""
                    cliffs.append(f"{name} ({verb} {ratio.median:.1f}{times})")
        more = f"More than three times the chip without: {'; '.join(cliffs) or 'none'}."
        publish(f"effects: {part}", f"{intro}\n\n{table(('effect', *VERBS), rows)}\n\n{more}")


if __name__ == "__main__":
    main()
