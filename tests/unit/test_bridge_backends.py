"""The numba and the torch backend read the same state alike, and are chosen by whether gradients are asked for."""

import pytest
import torch
from torch import nn

import crossbar_sim as cs

PCM = cs.ChipSpec.preset("pcm_1m")
BIT_SERIAL = ("neurram", "sonos_40nm")
READABLE = [name for name in cs.ChipSpec.presets() if name not in BIT_SERIAL]
TIMELESS = ("ideal", "pcm_afm", "pcm_joshi", "rram_milo", "generic")
N_IN, N_OUT = 70, 300  # more outputs than one group of random counters, and no multiple of it


def read_both(chip, dtype=torch.float64, n_vectors=9, t="1d"):
    """Outputs of both backends for the same read of the same state, and one ADC step of each output."""
    torch.manual_seed(0)
    layer = nn.Sequential(nn.Linear(N_IN, N_OUT)).to(dtype)
    x = torch.randn(n_vectors, N_IN, dtype=dtype)
    x[1:2] = 0
    mapped = [cs.map_model(layer, chip, seed=5, backend=backend) for backend in ("numba", "torch")]
    outputs = []
    for model in mapped:
        if chip.device.kind not in TIMELESS:
            model.chip.set_time(t)
        with torch.no_grad():
            model(x)  # a first read, so that the compared one is not read number 0
            outputs.append(model(x))
    matrix = mapped[0].chip.matrices["0"].matrix
    step = torch.zeros_like(outputs[0])
    for k, (start, stop) in enumerate(matrix.plan.rows):
        full = x[:, start:stop].abs().amax(dim=1) if matrix.input_range is None else matrix.input_range[k].to(dtype)
        size = matrix.readouts[k].adc.step if matrix.spec.adc else 0.0
        step += size * full.reshape(-1, 1) * matrix.gain[k].abs()
    counts = [
        (m.n_inputs, m.n_clipped, m.n_outputs, m.n_saturated) for m in (mm.chip.matrices["0"].matrix for mm in mapped)
    ]
    return *outputs, step, counts


def assert_alike(numba, torch_, step, tolerance, share=0.999):
    """Equal to rounding; where a sum lies on the edge between two ADC codes, rounding may choose the other one."""
    scale = float(numba.abs().max())
    distance = (numba - torch_).abs()
    equal = distance <= tolerance * scale
    assert float(equal.double().mean()) >= share
    assert (distance <= step * (1 + 1e-6) + tolerance * scale).all()


@pytest.mark.parametrize("preset", READABLE)
def test_presets_agree_in_float64(preset):
    numba, torch_, step, counts = read_both(cs.ChipSpec.preset(preset))
    assert_alike(numba, torch_, step, 1e-5)
    assert counts[0] == counts[1]


@pytest.mark.parametrize("preset", BIT_SERIAL)
def test_torch_refuses_presets_that_play_inputs_out_in_passes(preset):
    mapped = cs.map_model(nn.Sequential(nn.Linear(N_IN, 3)), cs.ChipSpec.preset(preset), backend="torch")
    with pytest.raises(cs.UsageError, match="several passes or rounded at random, which only the numba backend reads"):
        mapped(torch.ones(1, N_IN))


# float32 keeps variances in bfloat16: their two roundings move a noise draw by up to 0.4 % of its standard deviation,
# which is about one ADC step here, so that up to 1 % of the codes may differ
@pytest.mark.parametrize("preset", READABLE)
def test_presets_agree_in_float32(preset):
    numba, torch_, step, _ = read_both(cs.ChipSpec.preset(preset), torch.float32)
    assert_alike(numba, torch_, step, 1e-5, share=0.99)


@pytest.mark.parametrize("noise", ["frozen", "split", "per_read", None])
@pytest.mark.parametrize("rows", [512, 24])
@pytest.mark.parametrize("output_noise", [None, 0.3])
def test_noise_and_row_tiles_agree(noise, rows, output_noise):
    chip = PCM.evolve(read_noise=noise and {"kind": noise}, **{"tile.rows": rows, "adc.output_noise": output_noise})
    numba, torch_, step, counts = read_both(chip)
    assert_alike(numba, torch_, step, 1e-5)
    assert counts[0] == counts[1]


@pytest.mark.parametrize("bits", [8, 4, None])
@pytest.mark.parametrize("kind", ["dynamic", "static"])
def test_converters_agree(bits, kind):
    input_range = {"kind": "static", "value": 1.5} if kind == "static" else "dynamic"
    chip = PCM.evolve(dac={"bits": bits, "range": input_range}, adc={"bits": 6, "bound": 1.5}, **{"tile.rows": 24})
    numba, torch_, step, counts = read_both(chip)
    assert_alike(numba, torch_, step, 1e-5)
    assert counts[0] == counts[1]
    n_inputs, n_clipped, n_outputs, n_saturated = counts[0]
    assert (n_inputs, n_outputs) == (2 * 9 * N_IN, 2 * 9 * N_OUT * 3)
    assert (n_clipped > 0) == (kind == "static")
    assert n_saturated > 0


@pytest.mark.parametrize("n_vectors", [1, 3, 6])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_without_adc_noise_agrees_to_the_rounding_of_variances(n_vectors, dtype):
    chip = PCM.evolve(adc=None, read_noise={"kind": "per_read"})
    numba, torch_, *_ = read_both(chip, dtype, n_vectors)
    quiet, *_ = read_both(chip.evolve(read_noise=None), dtype, n_vectors)
    noise = float((numba - quiet).abs().max())
    assert float((numba - torch_).abs().max()) < noise * (1e-5 if dtype == torch.float64 else 0.008)


def test_auto_takes_numba_without_and_torch_with_gradients():
    torch.manual_seed(1)
    layer = nn.Sequential(nn.Linear(20, 30))
    x = torch.randn(8, 20)
    models = {name: cs.map_model(layer, PCM, backend=name) for name in ("auto", "numba", "torch")}
    with torch.no_grad():
        frozen = {name: model(x) for name, model in models.items()}
    models["torch"].chip.reset_reads()
    models["auto"].chip.reset_reads()
    learning = {name: models[name](x) for name in ("auto", "torch")}
    assert torch.equal(frozen["auto"], frozen["numba"])
    assert frozen["auto"].grad_fn is None
    assert torch.equal(learning["auto"], learning["torch"])
    assert learning["auto"].grad_fn is not None


def test_numba_refuses_gradients():
    layer = nn.Sequential(nn.Linear(4, 3))
    model = cs.map_model(layer, PCM, backend="numba")
    text = (
        '0: backend = "numba" cannot run this call, because gradients are asked for; '
        'wrap the call in torch.no_grad(), or use backend="torch"'
    )
    with pytest.raises(cs.UsageError) as error:
        model(torch.ones(2, 4))
    assert str(error.value) == text
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    assert model(torch.ones(2, 4)).shape == (2, 3)
    with pytest.raises(cs.UsageError, match="gradients are asked for"):
        model(torch.ones(2, 4, requires_grad=True))


def test_a_refused_call_is_no_read():
    model = cs.map_model(nn.Sequential(nn.Linear(4, 3)), PCM, backend="numba")
    with pytest.raises(cs.UsageError):
        model(torch.ones(2, 4))
    assert model.chip.matrices["0"].matrix.reads == 0
