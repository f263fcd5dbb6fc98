"""Wires, converters, output stages, polarity and I-V curves in a whole language model with random weights."""

from functools import cache

import pytest
import torch

import crossbar_sim as cs

transformers = pytest.importorskip("transformers")

PCM = cs.ChipSpec.preset("pcm_1m").evolve(tile={"rows": 48, "cols": 48}, read_noise="frozen")
TOKENS = torch.randint(2, 100, (2, 7), generator=torch.Generator().manual_seed(1))
STATIC = {"kind": "static", "value": 4.0}
AMPLITUDE = {"dac": {"encoding": {"kind": "amplitude", "v_read_V": 0.3}}}
EFFECTS = {
    "wires": ({"wires": {"r_wl_ohm": 5.0, "r_bl_ohm": 5.0}}, {}),
    "exact wires": ({"wires": {"r_wl_ohm": 5.0, "r_bl_ohm": 5.0, "model": "exact"}}, {}),
    "polarity of devices": ({"device.polarity": {"kind": "device", "sigma": 0.2}}, {}),
    "polarity of states": ({"device.polarity": {"kind": "state"}}, {"device.g_max_uS": 15.0}),
    "sinh current": ({"device.iv": {"kind": "sinh", "v0_V": 0.2}}, AMPLITUDE),
    "currents that differ": (
        {
            "device.iv": {
                "kind": "scattered",
                "n2_coefficients": (1e-6,),
                "n3_coefficients": (-1e-6,),
                "k2_log_sigma": (-1.0,),
                "lean12_V": 0.1,
                "lean13_V2": 0.02,
                "lean23_V": 0.3,
                "g_low_uS": 1.0,
            }
        },
        {**AMPLITUDE, "device.g_min_uS": 1.0},
    ),
    "cubic current": ({"device.iv": {"kind": "cubic", "k3_per_V2": 0.5}}, AMPLITUDE),
    "output stage": ({"output_stage": {"sense": {"load": 0.02}, "s_shape": {"compression": 0.2}}}, {}),
    "errors of the ADC": ({"adc.gain_sd": 0.05, "adc.offset_sd_lsb": 0.5, "adc.inl_cubic": 0.02}, {}),
    "asymmetric ADC": ({"adc": {"kind": "asymmetric"}}, {}),
    "mid-rise ADC": ({"adc": {"kind": "midrise"}}, {}),
    "oscillator": ({"adc": {"kind": "cco", "correction": "random_phase"}}, {}),
    "ramp": ({"adc": {"kind": "ramp", "sigma_cap": 0.1}}, {}),
    "SAR": ({"adc": {"kind": "sar", "sigma_cmp": 0.02}}, {}),
    "pipeline": ({"adc": {"kind": "pipeline", "sigma_cap": 0.02}}, {}),
    "bit-serial inputs": ({"dac.encoding": "bit_serial"}, {}),
    "split pulses": ({"dac.encoding": "split_pwm"}, {}),
    "four phases": ({"dac.phases": 4}, {}),
    "inputs rounded at random": ({"dac.stochastic_rounding": True}, {}),
    "compensation of columns": ({"compensation": "column"}, {}),
    "affine compensation": ({"compensation": "affine"}, {}),
}
"""What switches an effect on, and what it is compared on."""


@cache
def _llama():
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=100, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, initializer_range=0.2, bos_token_id=1, eos_token_id=None,
        pad_token_id=0,
    )  # fmt: skip
    return transformers.AutoModelForCausalLM.from_config(config).double().eval()  # shares kernels with other tests


def _mapped(spec, t="1d", **options):
    mapped = cs.map_model(_llama(), spec, seed=2, **options)
    mapped.chip.set_time(t)
    return mapped


def _logits(model, tokens=TOKENS):
    with torch.no_grad():
        return model(input_ids=tokens).logits


@pytest.mark.parametrize("name", EFFECTS)
def test_logits_change_with_an_effect_and_stay_those_of_the_chip(name):
    on, base = EFFECTS[name]
    spec = PCM.evolve(**base)
    without, mapped = _logits(_mapped(spec)), _mapped(spec.evolve(**on))
    changed = _logits(mapped)
    assert changed.isfinite().all()
    assert 1e-3 < float((changed - without).norm() / without.norm()) < 1.5
    again = _mapped(spec.evolve(**on), t="1h")
    again.chip.set_time("1d")
    assert torch.equal(_logits(again), changed)


@pytest.mark.parametrize("name", ["wires", "polarity of devices", "sinh current", "SAR", "bit-serial inputs"])
def test_one_token_at_a_time_is_the_whole_sequence(name):
    """Without roundings of dynamic ranges on other batches, a cache changes nothing but the order of sums."""
    on, base = EFFECTS[name]
    mapped = _mapped(PCM.evolve(**base).evolve(**on))
    with torch.no_grad():
        whole = mapped(input_ids=TOKENS[:1]).logits[:, -1]
        cache_ = mapped(input_ids=TOKENS[:1, :-1], use_cache=True).past_key_values
        last = mapped(input_ids=TOKENS[:1, -1:], past_key_values=cache_).logits[:, -1]
    assert float((last - whole).norm() / whole.norm()) < 0.05
