"""Which models metrics of text take: causal ones that give logits for each token, within their context."""

import random
from types import SimpleNamespace

import pytest
import torch
from tiny_language_models import TEXT, build, llama, word_tokenizer
from torch import nn

import crossbar_sim as cs
from crossbar_sim.study.language_model import check_causal
from crossbar_sim.study.metrics import DigitalReference

IDEAL = cs.ChipSpec.preset("ideal")
PCM = cs.ChipSpec.preset("pcm_1m")
TOKENIZER = word_tokenizer(("<s>",), bos_token="<s>")
ITEM = {"type": "mc", "context": "w3 w7 w9 w30 w8 w22", "choices": ["w4 w9 w8", "w5 w11 w12"], "answer": 0}
METRICS = [cs.Perplexity(TEXT, 32), cs.NextTokenAccuracy(TEXT, 32), cs.KLToDigital(TEXT, 32), cs.MultipleChoice([ITEM])]


CAUSAL = {
    **{name: {} for name in ("LlamaForCausalLM", "GPTNeoXForCausalLM")},
    **{name: {"num_key_value_heads": 2} for name in ("MistralForCausalLM", "Qwen2ForCausalLM")},
    **{name: {} for name in ("MambaForCausalLM", "FalconForCausalLM", "PhiForCausalLM", "OPTForCausalLM")},
    "GemmaForCausalLM": {"head_dim": 8, "num_key_value_heads": 2},
    "Olmo2ForCausalLM": {},
    "MixtralForCausalLM": {"num_local_experts": 4, "num_key_value_heads": 2},
    "GPT2LMHeadModel": {},
    "BloomForCausalLM": {},
    "BertLMHeadModel": {"is_decoder": True},
    "RobertaForCausalLM": {"is_decoder": True},
}
NOT_CAUSAL = {
    "BertLMHeadModel": "is not causal",
    "RobertaForCausalLM": "is not causal",
    "BertForMaskedLM": "is not causal",
    "RobertaForMaskedLM": "is not causal",
    "ElectraForMaskedLM": "is not causal",
    "AlbertForMaskedLM": "is not causal",
    "DistilBertForMaskedLM": "is not causal",
    "XLMRobertaForMaskedLM": "is not causal",
    "BertForSequenceClassification": "gives logits of shape (1, 2) for tokens of shape",
    "BertForMultipleChoice": "gives logits of shape|cannot read",
    "BertForTokenClassification": "but BertForTokenClassification knows 2 tokens",
    "BertForQuestionAnswering": "returns no `logits`",
    "BertModel": "returns no `logits`",
    "GPT2Model": "returns no `logits`",
    "T5ForConditionalGeneration": "is an encoder-decoder model",
    "BartForConditionalGeneration": "is an encoder-decoder model",
    "ViTForImageClassification": "cannot read 32 tokens",
}
INSTEAD = "measure with a metric of your own (crossbar_sim.AbstractMetric)"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", CAUSAL)
def test_causal_models_are_taken_in_whichever_mode_they_are(name, dtype):
    model = build(name, **CAUSAL[name]).to(dtype).train()
    found = cs.evaluate(model, METRICS, TOKENIZER, DigitalReference(model))
    assert found["kl_to_digital"] == pytest.approx(0, abs=1e-6)
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize("name", NOT_CAUSAL)
@pytest.mark.parametrize("metric", [METRICS[0], METRICS[-1]], ids=["text", "choice"])
def test_other_models_are_refused_before_work_begins(name, metric, tmp_path, monkeypatch):
    model = build(name)
    monkeypatch.setattr("crossbar_sim.study.sweep.map_model", lambda *_, **__: pytest.fail("work began"))
    out = tmp_path / "out"
    for call in (
        lambda: cs.evaluate(model, metric, TOKENIZER),
        lambda: cs.sweep(model, PCM, "1s", metrics=metric, tokenizer=TOKENIZER, out=out),
    ):
        with pytest.raises(cs.UsageError) as error:
            call()
        text = str(error.value)
        assert any(part in text for part in NOT_CAUSAL[name].replace("32", "").split("|")) or "cannot read" in text
        assert name in text
        assert INSTEAD in text or "knows 2 tokens" in text
        assert "\n" not in text
    assert not out.exists()


class Shifted(nn.Module):
    """Sees the token `ahead` places later, as a model whose mask is wrong."""

    def __init__(self, ahead):
        super().__init__()
        torch.manual_seed(0)
        self.ahead = ahead
        self.embedding, self.head = nn.Embedding(40, 16), nn.Linear(16, 40)

    def forward(self, input_ids):
        x = self.embedding(input_ids)
        later = torch.zeros_like(x)
        if self.ahead:
            later[:, : -self.ahead] = x[:, self.ahead :]
        else:
            later = x
        return SimpleNamespace(logits=self.head(x + 1e-3 * later))


@pytest.mark.parametrize("ahead", [0, 1, 2, 7, 15])
@pytest.mark.parametrize("mapped", [None, IDEAL, PCM], ids=["digital", "ideal", "pcm_1m"])
def test_looking_ahead_is_found_however_far_and_on_chips(ahead, mapped):
    """On a chip with noise as well, which the probe does not read."""
    model = Shifted(ahead)
    model = model if mapped is None else cs.map_model(model, mapped)
    sequences = [[i % 37 + 3 for i in range(40)]]
    if ahead == 0:
        assert check_causal(model, sequences) == 40
    else:
        with pytest.raises(cs.UsageError, match="Shifted is not causal"):
            check_causal(model, sequences)


class Mixture(nn.Module):
    """Each token goes to one of two experts, which then read other tokens, in other places, if later tokens differ."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embedding, self.head = nn.Embedding(40, 16), nn.Linear(16, 40)
        self.experts = nn.ModuleList(nn.Linear(16, 16) for _ in range(2))

    def forward(self, input_ids):
        x, y = self.embedding(input_ids), torch.zeros(*input_ids.shape, 16)
        for number, expert in enumerate(self.experts):
            own = input_ids % 2 == number
            y[own] = expert(x.flip(1)[own.flip(1)]).flip(0)
        return SimpleNamespace(logits=self.head(y))


def test_noise_does_not_look_like_dependence():
    mapped = cs.map_model(Mixture(), PCM)
    assert cs.evaluate(mapped, cs.Perplexity(TEXT, 32), TOKENIZER)["perplexity"] > 1
    assert all("read" not in vars(programmed) for programmed in mapped.chip.matrices.values())


def test_a_probe_leaves_no_trace():
    class Counting(Shifted):
        n_calls = 0

        def forward(self, input_ids):
            self.n_calls += 1
            return super().forward(input_ids)

    digital = Counting(0).train()
    mapped = cs.map_model(digital, PCM)
    metric = cs.Perplexity(TEXT, 32)
    found = cs.evaluate(mapped, metric, TOKENIZER)
    reads = [programmed.matrix.reads for programmed in mapped.chip.matrices.values()]
    assert reads == [mapped.n_calls] == [5]
    mapped.chip.reset_reads()
    assert cs.evaluate(mapped, metric, TOKENIZER, DigitalReference(digital)) == found
    assert (mapped.n_calls, digital.n_calls) == (10, 0)


def test_a_model_that_edits_its_weights_once_is_not_made_to_do_so_again():
    """As RWKV does, which divides weights in evaluation mode and remembers that it has."""

    class Rescaling(Shifted):
        is_rescaled = False

        def forward(self, input_ids):
            if not self.is_rescaled:
                with torch.no_grad():
                    self.head.weight.div_(2)
                self.is_rescaled = True
            return super().forward(input_ids)

    model, other = Rescaling(0), Shifted(0)
    with torch.no_grad():
        other.head.weight.div_(2)
    metric = cs.Perplexity(TEXT, 32)
    assert cs.evaluate(model, metric, TOKENIZER) == cs.evaluate(other, metric, TOKENIZER)


def test_chance_in_evaluation_mode_is_named():
    class Dropping(Shifted):
        def forward(self, input_ids):
            output = super().forward(input_ids)
            return SimpleNamespace(logits=nn.functional.dropout(output.logits))  # whichever the mode

    with pytest.raises(cs.UsageError, match="Dropping gives other logits when it reads the same tokens again"):
        cs.evaluate(Dropping(0), cs.Perplexity(TEXT, 32), TOKENIZER)


@pytest.mark.parametrize(
    ("output", "text"),
    [
        (lambda logits: logits, "returns no `logits` but Tensor"),
        (lambda logits: (logits,), "returns no `logits` but tuple"),
        (lambda logits: {"logits": logits}, "returns no `logits` but dict"),
        (lambda logits: SimpleNamespace(logits=None), "returns no `logits` but SimpleNamespace"),
        (lambda logits: SimpleNamespace(logits=logits[0]), "gives logits of shape"),
        (lambda logits: SimpleNamespace(logits=logits[:, -1:]), "gives logits of shape"),
    ],
)
def test_other_outputs_are_refused(output, text):
    class Other(Shifted):
        def forward(self, input_ids):
            return output(super().forward(input_ids).logits)

    with pytest.raises(cs.UsageError) as error:
        cs.evaluate(Other(0), cs.Perplexity(TEXT, 32), TOKENIZER)
    assert text in str(error.value)
    assert INSTEAD in str(error.value)


def test_keywords_go_to_models_that_take_them():
    seen = []

    class Bare(Shifted):
        def forward(self, tokens):
            return super().forward(tokens)

    class Some(Shifted):
        def forward(self, tokens, attention_mask=None, use_cache=True):
            seen.append((attention_mask is not None, use_cache))
            return super().forward(tokens)

    class Any(Shifted):
        def forward(self, tokens, **options):
            seen.append(("attention_mask" in options, options["use_cache"]))
            return super().forward(tokens)

    class Wrapper(nn.Module):
        def __init__(self, module):
            super().__init__()
            self.module = module

        def forward(self, *inputs, **options):
            return self.module(*inputs, **options)

    metrics = [cs.Perplexity(TEXT, 32, 1), cs.MultipleChoice([ITEM])]
    expected = cs.evaluate(Bare(0), metrics, TOKENIZER)
    assert seen == []
    for model in (Some(0), Any(0), Wrapper(Bare(0)), Wrapper(Some(0)), torch.nn.DataParallel(Some(0))):
        seen.clear()
        assert cs.evaluate(model, metrics, TOKENIZER) == expected
        assert set(seen) == ({(True, False), (False, False)} if seen or not isinstance(model, Wrapper) else set())


@pytest.mark.parametrize(
    ("model", "limit", "field"),
    [
        (lambda: build("LlamaForCausalLM"), 64, "max_position_embeddings"),
        (lambda: build("GPT2LMHeadModel", n_positions=64), 64, "n_positions"),
        (lambda: build("OPTForCausalLM"), 64, "max_position_embeddings"),
        (lambda: build("RobertaForCausalLM", is_decoder=True, pad_token_id=1), 62, "max_position_embeddings"),
        (lambda: build("FalconForCausalLM"), 64, "max_position_embeddings"),
        (lambda: build("FalconForCausalLM", alibi=True), None, ""),
        (lambda: build("BloomForCausalLM"), None, ""),
        (lambda: build("MptForCausalLM", d_model=32, n_layers=2, n_heads=4), None, ""),
        (lambda: build("MambaForCausalLM"), None, ""),
        (lambda: Shifted(0), None, ""),
    ],
)
def test_windows_are_held_against_the_context_of_the_model(model, limit, field):
    model = model()
    text = TEXT if limit is None else TEXT[: len(TEXT)]
    assert cs.evaluate(model, cs.Perplexity(text, limit or 100), TOKENIZER)["perplexity"] > 1
    if limit is not None:
        with pytest.raises(cs.UsageError) as error:
            cs.evaluate(model, cs.Perplexity(text, limit + 1), TOKENIZER)
        assert str(error.value) == (
            f"Perplexity.window = {limit + 1}: {type(model).__name__} reads at most {limit} tokens (config.{field}); "
            "choose a smaller window"
        )


def test_the_context_of_a_model_within_another_counts():
    model = Shifted(0)
    model.config = SimpleNamespace(text_config=SimpleNamespace(max_position_embeddings=20))
    with pytest.raises(cs.UsageError, match=r"Shifted reads at most 20 tokens \(config.max_position_embeddings\)"):
        cs.evaluate(model, cs.Perplexity(TEXT, 21), TOKENIZER)


@pytest.mark.parametrize("model", [lambda: llama(vocab_size=20), lambda: Narrow()], ids=["hugging face", "own"])
def test_a_tokenizer_of_another_model_is_refused(model, tmp_path):
    with pytest.raises(cs.UsageError, match=r"tokenizer: gives token 39, but .* knows 20 tokens; give the"):
        cs.sweep(model(), PCM, "1s", metrics=METRICS[0], tokenizer=TOKENIZER, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


class Narrow(nn.Module):
    """Has more embeddings than logits."""

    def __init__(self):
        super().__init__()
        self.embedding, self.head = nn.Embedding(60, 8), nn.Linear(8, 20)

    def forward(self, input_ids):
        return SimpleNamespace(logits=self.head(self.embedding(input_ids)))


class TestMode:
    def test_a_model_in_training_gives_the_numbers_of_evaluation(self):
        model = build("GPT2LMHeadModel").train()
        found = cs.sweep(model, IDEAL, "0s", metrics=METRICS, tokenizer=TOKENIZER).frame
        values = found.set_index("metric")["value"]
        assert values["kl_to_digital"] == pytest.approx(0, abs=1e-6)
        digital = cs.evaluate(model.eval(), METRICS, TOKENIZER, DigitalReference(model))
        assert dict(found.set_index("metric")["digital"]) == digital

    @pytest.mark.parametrize("seed", range(4))
    @pytest.mark.parametrize("fails", [False, True])
    def test_every_module_has_its_own_mode_back(self, seed, fails):
        chance = random.Random(seed)
        model = build("GPT2LMHeadModel")
        mapped = cs.map_model(model, PCM)
        everything = [*model.modules(), *mapped.modules()]
        for module in everything:
            module.training = chance.random() < 0.5
        before = [module.training for module in everything]

        class Watching(cs.AbstractMetric):
            name = "watching"

            def measure(self, context):
                assert not any(module.training for module in everything)
                assert not torch.is_grad_enabled()
                if fails:
                    raise KeyError("on purpose")
                return 1

        if fails:
            with pytest.raises(KeyError):
                cs.evaluate(mapped, [Watching()], None, DigitalReference(model))
        else:
            found = cs.evaluate(mapped, [Watching(), *METRICS], TOKENIZER, DigitalReference(model))
            assert found["watching"] == 1.0
        assert [module.training for module in everything] == before

    def test_a_reference_by_itself_evaluates(self):
        model, tokens = build("GPT2LMHeadModel").train(), torch.arange(3, 20)[None]
        first, second = (DigitalReference(model).log_probs(tokens) for _ in range(2))
        assert torch.equal(first, second)
        assert not first.requires_grad
        assert model.training


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("where", ["head", "one token"])
def test_numbers_that_are_none_are_not_hidden(value, where):
    """A row of logits with NaN or inf ranks nothing: no metric may count it as a miss."""
    model = Shifted(0)
    with torch.no_grad():
        (model.head.bias if where == "head" else model.embedding.weight[10])[:] = value
    found = cs.evaluate(model, METRICS, TOKENIZER, DigitalReference(Shifted(0)))
    item = {**ITEM, "context": "w10"}
    found |= {"choice": cs.evaluate(model, cs.MultipleChoice([item]), TOKENIZER)["multiple_choice_acc"]}
    del found["multiple_choice_acc"]
    assert {name: number != number for name, number in found.items()} == dict.fromkeys(found, True)
