"""A folder holds the sweep of one model: weights, class, configuration, tokens; another one is refused by name."""

import enum
import functools
import json
from collections import deque
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny_language_models import TEXT, WORDS, build, llama, transformers, word_tokenizer
from torch import nn

import crossbar_sim as cs
from crossbar_sim.study.identity import model_identity

PCM = cs.ChipSpec.preset("pcm_1m")
METRIC = cs.Perplexity(TEXT, 32, 1)
TOKENIZER = word_tokenizer(bos_token="<s>")


def run(out, model, metrics=METRIC, tokenizer=TOKENIZER):
    return cs.sweep(model, PCM, "1s", metrics=metrics, tokenizer=tokenizer, out=out).frame


def refused(out, name, **options):
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(cs.StoreError) as error:
        run(out, **options)
    assert str(error.value) == f"{out}: holds a sweep with another {name}; choose another `out`"
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    return True


def test_the_numbers_of_another_rope_are_not_given(tmp_path):
    first = llama()
    frame = run(tmp_path, first)
    second = llama(rope_parameters={"rope_type": "default", "rope_theta": 100.0})
    second.load_state_dict(first.state_dict())
    assert refused(tmp_path, "model configuration", model=second)
    other = run(None, second)
    assert (other["value"] != frame["value"]).all()
    assert (other["digital"] != frame["digital"]).all()


LLAMA = {
    "rope_parameters": [
        {"rope_type": "default", "rope_theta": 500.0},
        {"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.0},
        {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0},
    ],
    "rms_norm_eps": [1e-2],
    "hidden_act": ["gelu", "relu"],
    "num_attention_heads": [2],
    "max_position_embeddings": [128],
    "attn_implementation": ["eager"],
    "attention_dropout": [0.5],
}
GPT2 = {
    "activation_function": ["gelu", "relu"],
    "layer_norm_epsilon": [1e-2],
    "num_attention_heads": [2],
    "scale_attn_weights": [False],
    "scale_attn_by_inverse_layer_idx": [True],
}
MISTRAL = {"sliding_window": [4, None]}
GEMMA2 = {"final_logit_softcapping": [1.0], "attn_logit_softcapping": [1.0], "query_pre_attn_scalar": [7]}
FIELDS = [
    (name, field, value)
    for name, fields in {
        "LlamaForCausalLM": LLAMA,
        "GPT2LMHeadModel": GPT2,
        "MistralForCausalLM": MISTRAL,
        "Gemma2ForCausalLM": GEMMA2,
    }.items()
    for field, values in fields.items()
    for value in values
]
BASE = {
    "MistralForCausalLM": {"num_key_value_heads": 2},
    "Gemma2ForCausalLM": {"num_key_value_heads": 2, "head_dim": 8},
}
same_weights = functools.lru_cache(maxsize=None)(lambda name: build(name, **BASE.get(name, {})))


@pytest.mark.parametrize(("name", "field", "value"), FIELDS)
def test_every_field_of_a_configuration_counts(name, field, value, tmp_path):
    first = same_weights(name)
    second = build(name, **BASE.get(name, {}), **{field: value})
    second.load_state_dict(first.state_dict())
    assert model_identity(second) != model_identity(first)
    run(tmp_path, first)
    assert refused(tmp_path, "model configuration", model=second)


@pytest.mark.parametrize("name", sorted({name for name, *_ in FIELDS}))
def test_a_model_is_the_same_wherever_it_comes_from_and_whatever_it_did(name, tmp_path):
    model = build(name, **BASE.get(name, {}))
    before = model_identity(model)
    model.save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path)
    loaded.train()
    loaded.config.use_cache = False
    loaded.enable_input_require_grads()  # a hook, as training with checkpoints sets it
    assert model_identity(loaded) == before
    with torch.no_grad():
        model.eval()(torch.arange(3, 40)[None])
    model.generate(torch.arange(3, 6)[None], max_new_tokens=2, do_sample=False, pad_token_id=0)
    assert model_identity(model) == before
    cs.map_model(model, PCM)
    assert model_identity(model) == before


class Kind(enum.Enum):
    FIRST = 1
    SECOND = 2


@dataclass
class Settings:
    scale: float = 1.0


class Own(nn.Module):
    """A language model of one's own whose parts are given."""

    def __init__(self, **parts):
        super().__init__()
        torch.manual_seed(0)
        self.embedding, self.up, self.head = nn.Embedding(40, 16), nn.Linear(16, 16), nn.Linear(16, 40)
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, input_ids):
        return SimpleNamespace(logits=self.head(torch.relu(self.up(self.embedding(input_ids)))))


def buffered(value):
    module = nn.Module()
    module.register_buffer("frequencies", torch.tensor(value), persistent=False)
    return module


def hooked(function):
    module = nn.Identity()
    module.register_forward_hook(function)
    return module


def forwarding(function):
    module = nn.Identity()
    module.forward = function
    return module


def namespace_config(value):
    return SimpleNamespace(scale=value)


class PlainConfig:
    def __init__(self, scale):
        self.scale = scale


def nested(module):
    return nn.Sequential(nn.Identity(), nn.ModuleDict({"inner": module}))


def scaled(factor, hook=False, default=1):
    """A function that only its closure and its defaults tell from others."""

    def of_output(module, inputs, output, by=default):
        return output * factor * by

    return of_output if hook else lambda x: (lambda y: y * factor)(x)


def with_code(body, **attributes):
    """A class of one name whose code and attributes are given."""
    space = {}
    exec(f"def compute(self, x):\n    {body}", {"torch": torch}, space)
    space["compute"].__module__ = __name__
    return type("Part", (nn.Module,), {"compute": space["compute"], "__module__": __name__, **attributes})


class Slotted:
    __slots__ = ("__hidden", "scale")

    def __init__(self, scale, hidden=0):
        self.scale, self.__hidden = scale, hidden


class HookObject:
    def __init__(self, scale):
        self.scale = scale

    def __call__(self, module, inputs, output):
        return output * self.scale


def module_with(**attributes):
    module = Own()
    vars(module).update(attributes)
    return module


def objects(*values):
    return np.array(values, dtype=object)


PAIRS = {
    "hook closure": (hooked(scaled(1, True)), hooked(scaled(2, True))),
    "hook defaults": (hooked(scaled(1, True, 1)), hooked(scaled(1, True, 2))),
    "hook partial": (hooked(functools.partial(scaled, 1)), hooked(functools.partial(scaled, 2))),
    "hook object": (hooked(HookObject(1)), hooked(HookObject(2))),
    "hook of an object": (hooked(HookObject(1).__call__), hooked(HookObject(2).__call__)),
    "method code": (with_code("return x * 2")(), with_code("return x * 3")()),
    "method names": (with_code("return torch.sin(x)")(), with_code("return torch.cos(x)")()),
    "class itself": (with_code("return x * 2"), with_code("return x * 3")),
    "class mapping": (with_code("pass", scales={"a": 1})(), with_code("pass", scales={"a": 2})()),
    "class tensor": (with_code("pass", t=torch.zeros(1))(), with_code("pass", t=torch.ones(1))()),
    "class list": (with_code("pass", data=[1.0])(), with_code("pass", data=[2.0])()),
    "nested lambda": (lambda x: (lambda y: y * 2)(x), lambda x: (lambda y: y * 3)(x)),
    "nested closure": (scaled(1), scaled(2)),
    "deque": (deque([1]), deque([2])),
    "fraction": (Fraction(1, 2), Fraction(1, 3)),
    "decimal": (Decimal("0.1"), Decimal("0.2")),
    "object array": (objects(1, "a"), objects(1, "b")),
    "object array of arrays": (objects({"a": 1}, torch.zeros(1)), objects({"a": 1}, torch.ones(1))),
    "slots": (Slotted(1), Slotted(2)),
    "hidden slots": (Slotted(1, 1), Slotted(1, 2)),
    "range": (range(3), range(4)),
    "named name_or_path": (module_with(name_or_path="a"), module_with(name_or_path="b")),
    "named use_cache": (module_with(use_cache=1), module_with(use_cache=2)),
    "named _hf_scale": (module_with(_hf_scale=1), module_with(_hf_scale=2)),
    "type": (torch.float32, torch.float16),
    "dropout": (nn.Dropout(0.1), nn.Dropout(0.2)),
    "dropout deeper": (nested(nn.Dropout(0.1)), nested(nn.Dropout(0.2))),
    "eps": (nn.LayerNorm(16, eps=1e-5), nn.LayerNorm(16, eps=1e-2)),
    "groups": (nn.GroupNorm(2, 16), nn.GroupNorm(4, 16)),
    "gelu": (nn.GELU(), nn.GELU(approximate="tanh")),
    "slope": (nn.LeakyReLU(0.1), nn.LeakyReLU(0.2)),
    "class": (nn.ReLU(), nn.SiLU()),
    "stride": (nn.Conv1d(2, 2, 3, stride=1), nn.Conv1d(2, 2, 3, stride=2)),
    "padding index": (nn.Embedding(4, 2), nn.Embedding(4, 2, max_norm=1.0)),
    "softmax": (nn.Softmax(dim=0), nn.Softmax(dim=1)),
    "number": (1.0, 2.0),
    "text": ("relu", "gelu"),
    "bool": (True, False),
    "none": (None, 1),
    "tuple": ((1, 2), (1, 3)),
    "list": ([1, 2], [1, 3]),
    "mapping": ({"a": 1}, {"a": 2}),
    "function": (torch.relu, torch.tanh),
    "activation": (nn.functional.gelu, nn.functional.silu),
    "partial": (functools.partial(nn.functional.gelu, approximate="tanh"), functools.partial(nn.functional.gelu)),
    "lambda": (lambda x: x * 2, lambda x: x * 3),
    "tensor": (torch.zeros(3), torch.ones(3)),
    "tensors": ([torch.zeros(3)], [torch.ones(3)]),
    "buffer": (buffered([1.0, 0.1]), buffered([1.0, 0.2])),
    "hook": (hooked(namespace_config), hooked(buffered)),
    "forward": (forwarding(torch.relu), forwarding(torch.tanh)),
    "dataclass": (Settings(1.0), Settings(2.0)),
    "namespace": (SimpleNamespace(a=1), SimpleNamespace(a=2)),
    "class of one's own": (PlainConfig(1), PlainConfig(2)),
    "modules in a list": ([nn.Dropout(0.1)], [nn.Dropout(0.2)]),
    "weights in a list": ([nn.Linear(2, 2)], [nn.Linear(2, 2)]),
    "enum": (Kind.FIRST, Kind.SECOND),
}


@pytest.mark.parametrize("attribute", ["part", "_part", "config"])
@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
def test_plain_attributes_of_every_module_count(pair, attribute, tmp_path):
    first, second = (model_identity(Own(**{attribute: part})) for part in pair)
    assert model_identity(Own(**{attribute: pair[0]})) == first
    assert first != second
    assert json.loads(json.dumps(first)) == first


def test_models_of_ones_own_are_told_apart_in_a_folder(tmp_path):
    class Scaled(Own):
        factor = 1.0

    class Other(Scaled):
        factor = 2.0

    run(tmp_path, Own(scale=1.0))
    for model in (Own(scale=2.0), Own(), Scaled(scale=1.0), Other(scale=1.0)):
        assert refused(tmp_path, "model configuration", model=model)
    run(tmp_path, Own(scale=1.0))


def test_what_holds_each_other_ends():
    model = Own()
    model.parts = [model, model.up]
    model.owner = PlainConfig(model)
    model.owner.other = PlainConfig(model.owner)
    assert model_identity(model) == model_identity(model)


def shuffled_vocabulary():
    tokenizer = word_tokenizer(bos_token="<s>")
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    vocabulary = state["model"]["vocab"]
    vocabulary["w3"], vocabulary["w4"] = vocabulary["w4"], vocabulary["w3"]
    changed = type(tokenizer.backend_tokenizer).from_str(json.dumps(state))
    return transformers.PreTrainedTokenizerFast(tokenizer_object=changed, unk_token="<unk>", bos_token="<s>")


def letters(offset):
    def tokenizer(text, **_):
        return {"input_ids": [(ord(letter) + offset) % 40 for letter in text]}

    return tokenizer


CHOICE = cs.MultipleChoice([{"type": "mc", "context": "", "choices": WORDS[:2], "answer": 0}])


@pytest.mark.parametrize(
    ("metric", "first", "second"),
    [
        (METRIC, lambda: TOKENIZER, lambda: word_tokenizer(("<s>",), bos_token="<s>")),
        (METRIC, lambda: word_tokenizer(("<s>",)), lambda: word_tokenizer(("<s>", "</s>"))),
        (METRIC, lambda: TOKENIZER, shuffled_vocabulary),
        (METRIC, lambda: letters(0), lambda: letters(1)),
        (CHOICE, lambda: TOKENIZER, lambda: word_tokenizer(eos_token="</s>")),
        (CHOICE, lambda: TOKENIZER, shuffled_vocabulary),
    ],
)
def test_other_tokens_are_refused(metric, first, second, tmp_path):
    model = llama()
    run(tmp_path, model, metric, first())
    run(tmp_path, model, metric, first())
    name = f"tokenizer, by its tokens for metric {metric.name!r}"
    assert refused(tmp_path, name, model=model, metrics=metric, tokenizer=second())


def test_a_context_of_another_length_is_refused(tmp_path):
    """Items are cut to it, and weights do not know it."""
    long = cs.MultipleChoice([{"type": "mc", "context": TEXT, "choices": WORDS[:2], "answer": 0}])
    run(tmp_path, llama(), long)
    assert refused(tmp_path, "model configuration", model=llama(max_position_embeddings=32), metrics=long)


@pytest.mark.parametrize("form", [None, 1, "2"])
def test_a_folder_of_an_earlier_version_is_refused(form, tmp_path):
    """It does not say which configuration its numbers belong to."""
    run(tmp_path, llama())
    path = tmp_path / "sweep.json"
    content = json.loads(path.read_text())
    del content["format"], content["digests"]["model configuration"]
    path.write_text(json.dumps({**content, **({} if form is None else {"format": form})}))
    before = path.read_bytes()
    with pytest.raises(cs.StoreError) as error:
        run(tmp_path, llama())
    assert str(error.value) == (
        f"{tmp_path}: holds a sweep of another version, which recorded other things that its numbers depend on, so "
        "that nobody can tell whether it is this sweep; choose another `out`"
    )
    assert path.read_bytes() == before


def test_a_table_does_not_leave_out_what_is_no_number(tmp_path):
    class Now(cs.AbstractMetric):
        name = "now"

        def measure(self, context):
            chip = getattr(context.model, "chip", None)
            return 1.0 if chip is None or chip.seed else float("nan")

    table = cs.sweep(Own(), PCM, ["1s", "1h"], [0, 1], Now()).table()
    assert table.loc[("now", "pcm_1m")].tolist() == ["1", "nan", "nan"]
