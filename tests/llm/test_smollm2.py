"""The packaged SmolLM2-135M: digital baseline, ideal chip, and PCM after a day."""

import json
import math

import pytest
import torch
from torch import nn

import crossbar_sim as cs
from crossbar_sim.study.texts import default_text

pytestmark = [pytest.mark.packaged_model, pytest.mark.slow]

WIKITEXT_PERPLEXITY_16 = 36.077  # ../shared/data/eval/README.md
ARC_ITEMS = 30


@pytest.fixture(scope="module")
def ideal(smollm2):
    return cs.map_model(smollm2[0], cs.ChipSpec.preset("ideal"))


@pytest.fixture(scope="module")
def pcm_after_a_day(smollm2):
    mapped = cs.map_model(smollm2[0], cs.ChipSpec.preset("pcm_1m"), seed=11)
    mapped.chip.set_time("1d")
    return mapped


@pytest.fixture(scope="module")
def english(smollm2):
    """256 tokens of English."""
    return smollm2[1](default_text()[:4000], return_tensors="pt")["input_ids"][:, :256]


def test_digital_perplexity_is_the_published_one(smollm2, shared_data):
    text = (shared_data / "wikitext2_raw_test_part.txt").read_text(encoding="utf-8")
    model, tokenizer = smollm2
    found = cs.evaluate(model, [cs.Perplexity(text, window=512, max_windows=16)], tokenizer)
    assert found["perplexity"] == pytest.approx(WIKITEXT_PERPLEXITY_16, abs=0.01)


def test_the_model_is_a_plain_one(smollm2, tmp_path):
    """Nothing says that its weights were quantised once: it is saved, loaded and trained as any other."""
    transformers = pytest.importorskip("transformers")
    model, _ = smollm2
    model.save_pretrained(tmp_path)
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype="float32")
    assert set(vars(model)) - {"name_or_path"} == set(vars(again)) - {"name_or_path"}
    assert {*vars(model.config)} <= {*vars(again.config)}
    assert model.state_dict().keys() == again.state_dict().keys()
    assert all(map(torch.equal, model.state_dict().values(), again.state_dict().values()))
    arguments = transformers.TrainingArguments(output_dir=str(tmp_path / "out"), report_to="none", use_cpu=True)
    assert transformers.Trainer(model, arguments).model is model


def test_multiple_choice_equals_a_plain_loop(smollm2, shared_data):
    model, tokenizer = smollm2
    path = shared_data / "arc_easy.jsonl"
    items = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:ARC_ITEMS]]
    hits = {False: 0, True: 0}
    for item in items:
        scores = []
        for choice in item["choices"]:  # one at a time, without padding
            start = len(tokenizer(item["context"])["input_ids"])
            tokens = tokenizer(item["context"] + " " + choice, return_tensors="pt")["input_ids"]
            with torch.no_grad():
                log_probs = model(tokens).logits[0].log_softmax(-1)
            scores.append(sum(float(log_probs[i - 1, tokens[0, i]]) for i in range(start, tokens.shape[1])))
        for normalise in hits:
            by_length = [s / len(c.encode()) if normalise else s for s, c in zip(scores, item["choices"], strict=True)]
            hits[normalise] += by_length.index(max(by_length)) == item["answer"]
    metrics = [cs.MultipleChoice(str(path), limit=ARC_ITEMS, normalise=normalise) for normalise in hits]
    found = cs.evaluate(model, metrics, tokenizer)
    assert found == {"arc_easy_acc": hits[False] / ARC_ITEMS, "arc_easy_acc_norm": hits[True] / ARC_ITEMS}
    assert found["arc_easy_acc"] > 0.25  # chance; 0.4933 over the first 150 items


def test_ideal_logits(smollm2, ideal, english):
    assert len(ideal.chip.matrices) == 7 * 30 + 1
    with torch.no_grad():
        found, expected = ideal(english).logits, smollm2[0](english).logits
    assert float((found - expected).abs().max()) < 1e-5 * float(expected.abs().max())  # of logits up to some 30


def test_ideal_writes_the_same_40_tokens(smollm2, ideal):
    model, tokenizer = smollm2
    inputs = tokenizer("The history of the city begins in", return_tensors="pt")
    texts = [
        m.generate(**inputs, max_new_tokens=40, min_new_tokens=40, do_sample=False, pad_token_id=0)
        for m in (model, ideal)
    ]
    assert texts[0].shape[1] == inputs["input_ids"].shape[1] + 40
    assert torch.equal(*texts)


def test_pcm_is_worse_but_sound(smollm2, pcm_after_a_day):
    model, tokenizer = smollm2
    metric = cs.Perplexity(default_text(), window=256, max_windows=1)
    digital = cs.evaluate(model, [metric], tokenizer)["perplexity"]
    analog = cs.evaluate(pcm_after_a_day, [metric], tokenizer)["perplexity"]
    assert math.isfinite(analog)
    assert digital < analog < model.config.vocab_size  # below the perplexity of a uniform guess
    pcm_after_a_day.chip.reset_reads()
    assert cs.evaluate(pcm_after_a_day, [metric], tokenizer)["perplexity"] == analog


@pytest.mark.parametrize("name", ["model.layers.0.mlp.down_proj", "model.layers.29.self_attn.k_proj"])
def test_state_of_a_layer_depends_on_nothing_else(smollm2, pcm_after_a_day, name):
    alone = nn.Module()
    inner = alone
    *path, last = name.split(".")
    for part in path:
        inner.add_module(part, nn.Module())
        inner = inner.get_submodule(part)
    inner.add_module(last, smollm2[0].get_submodule(name))
    chip = cs.map_model(alone, cs.ChipSpec.preset("pcm_1m"), seed=11).chip
    chip.set_time("1h")
    chip.set_time("1d")
    own, other = chip.matrices[name].matrix, pcm_after_a_day.chip.matrices[name].matrix
    for part in ("effective", "variance"):
        assert all(map(torch.equal, getattr(own, part), getattr(other, part)))
    assert torch.equal(own.drift_factor, other.drift_factor)
