"""Every class of causal language models that transformers registers: equal on the ideal chip, or refused by name."""

import warnings

import pytest
import torch

import crossbar_sim as cs

transformers = pytest.importorskip("transformers")

from small_models import MAX_WEIGHTS, causal_names, small_inputs, small_model  # noqa: E402

IDEAL = cs.ChipSpec.preset("ideal")
REFUSED: set[str] = set()
"""Classes that are refused by name without a rule."""
LEAST = 160
"""Of these many, a small model can be built and runs."""


@pytest.mark.filterwarnings("ignore")
def test_each_is_equal_on_the_ideal_chip_or_refused_by_name():
    outcomes = {name: _outcome(name) for name in causal_names()}
    built = {name: each for name, each in outcomes.items() if each is not None}
    assert len(built) >= LEAST, sorted(set(outcomes) - set(built))
    assert {name for name, each in built.items() if isinstance(each, str)} == REFUSED
    errors = {name: each for name, each in built.items() if not isinstance(each, str) and each > 1e-4}
    assert errors == {}


def _outcome(name):
    """The error on the ideal chip, the refusal as a text, or None where no small model can be built or run."""
    inputs = small_inputs()
    with torch.no_grad():
        try:
            model = small_model(name)
            if sum(parameter.numel() for parameter in model.parameters()) > MAX_WEIGHTS:
                return None
            expected = model(**inputs).logits
        except Exception:  # made-up numbers do not suit every configuration; how many they suit is asserted
            return None
        try:
            many = cs.plan_model(model, IDEAL).layers if _has_depthwise(model) else {}
            rules = {name: "digital" for name in many if ".conv1d." in name} or None
            mapped = cs.map_model(model, IDEAL, rules=rules)
        except cs.UsageError as refusal:
            named = str(refusal).split(":")[0] in dict(model.named_modules())
            return str(refusal) if named else float("inf")
        found = mapped(**inputs).logits
        coverage = mapped.chip.plan.coverage
        if not rules and any(".experts." in layer for layer in mapped.chip.matrices):
            assert coverage.share_of_weights >= 0.9, f"{name}: {coverage}"
        assert coverage.n_weights >= _weights_of_linear_layers(model), name
    return float((found - expected).abs().max() / expected.abs().max())


def _has_depthwise(model):
    """Thousands of tiny matrices, of which tests/unit/test_kinds_convolution.py has some."""
    convolutions = [m for m in model.modules() if isinstance(m, torch.nn.Conv1d)]
    return sum(m.groups for m in convolutions) > 300


def _weights_of_linear_layers(model):
    """Counted without the package, and at most what its account has."""
    layers = {id(m): m for m in model.modules() if isinstance(m, torch.nn.Linear)}
    return sum(layer.weight.numel() for layer in layers.values())


def test_a_mixture_is_the_same_with_and_without_a_cache_and_by_every_forward_of_experts():
    model = small_model("mixtral")
    mapped = cs.map_model(model, IDEAL)
    tokens = small_inputs()["input_ids"][:1]
    texts = []
    for each in (model, mapped):
        for use_cache in (True, False):
            texts.append(_greedy(each, tokens, use_cache))
    for way in ("eager", "grouped_mm", "batched_mm"):
        mapped.set_experts_implementation(way)
        texts.append(_greedy(mapped, tokens, True))
    assert len({tuple(text) for text in texts}) == 1
    assert len(texts[0]) == tokens.shape[1] + 5


def _greedy(model, tokens, use_cache):
    with torch.no_grad():
        options = {"max_new_tokens": 5, "do_sample": False, "use_cache": use_cache, "eos_token_id": None}
        found = model.generate(input_ids=tokens, attention_mask=torch.ones_like(tokens), **options)
    return found[0].tolist()


@pytest.mark.parametrize("name", ["mixtral", "gpt_oss", "olmoe"])
def test_a_mixture_on_a_noisy_chip_drifts_and_comes_back(name, tmp_path):
    pcm = cs.ChipSpec.preset("pcm_1m")
    model = small_model(name)
    mapped = cs.map_model(model, pcm, rules={"*.experts.down_proj.1": "digital"})
    assert not any(layer.endswith("down_proj.1") for layer in mapped.chip.matrices)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an expert that no token was sent to
        first = mapped(**small_inputs()).logits
        mapped.chip.set_time("1y")
        later = mapped(**small_inputs()).logits
        assert not torch.equal(first, later)
        mapped.chip.save(tmp_path / "chip")
        loaded = cs.load_chip(tmp_path / "chip", model)
        mapped.chip.reset_reads()
        loaded.chip.reset_reads()
        assert torch.equal(loaded(**small_inputs()).logits, mapped(**small_inputs()).logits)


def test_resized_embeddings_are_noticed():
    for tied in (False, True):
        config = transformers.LlamaConfig(
            vocab_size=96, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=4,
            tie_word_embeddings=tied, pad_token_id=0,
        )  # fmt: skip
        mapped = cs.map_model(transformers.AutoModelForCausalLM.from_config(config).eval(), IDEAL)
        mapped.resize_token_embeddings(100)
        with pytest.raises(cs.StateError, match=r"^lm_head: "), torch.no_grad():
            mapped(**small_inputs())
