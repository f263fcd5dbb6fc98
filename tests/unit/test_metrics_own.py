"""A metric of one's own: one class with a name and a method, for any model."""

import functools
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
import pytest
import torch
from tiny_language_models import TEXT, build, llama, word_tokenizer
from torch import nn

import crossbar_sim as cs
from crossbar_sim.study.identity import metric_identity, tokenizer_identity

PCM = cs.ChipSpec.preset("pcm_1m")
TOKENIZER = word_tokenizer(("<s>",))


class Vision(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.features = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.5))
        self.head = nn.Linear(4 * 36, 5)

    def forward(self, images):
        return self.head(self.features(images))


IMAGES = torch.randn(16, 1, 8, 8, generator=torch.Generator().manual_seed(0))


class Agreement(cs.AbstractMetric):
    """Share of images that a model and the digital one put into the same class."""

    name = "agreement"

    def __init__(self, images=IMAGES):
        self.images = images

    def measure(self, context):
        digital, found = (model(self.images).argmax(dim=1) for model in (context.digital, context.model))
        return (digital == found).float().mean()


def test_a_vision_model_is_swept_without_a_tokenizer(tmp_path):
    model = Vision().train()
    with torch.no_grad():
        model(IMAGES)  # so that the statistics of the batch are not those kept
    kept = model.features[1].running_mean.clone()
    ideal = cs.sweep(model, cs.ChipSpec.preset("ideal"), "0s", metrics=Agreement()).frame
    assert ideal["value"].tolist() == ideal["digital"].tolist() == [1.0]
    found = cs.sweep(model, PCM, ["1s", "1y"], [0, 1], [Agreement()], out=tmp_path).frame
    assert found.shape == (4, 7)
    assert found["value"].between(0, 1).all()
    again = cs.sweep(copy_of(model), PCM, ["1s", "1y"], [0, 1], [Agreement(IMAGES.clone())], out=tmp_path).frame
    assert again.equals(found)
    assert model.training
    assert torch.equal(model.features[1].running_mean, kept)


def copy_of(model):
    other = Vision()
    other.load_state_dict(model.state_dict())
    return other


def test_an_encoder_is_swept():
    class Cosine(cs.AbstractMetric):
        name = "cosine"

        def measure(self, context):
            assert context.tokenizer is None
            tokens = torch.arange(3, 30)[None]
            outputs = [model(tokens).last_hidden_state for model in (context.model, context.digital)]
            return nn.functional.cosine_similarity(*outputs, dim=-1).mean()

    frame = cs.sweep(build("BertModel"), cs.ChipSpec.preset("ideal"), "0s", metrics=Cosine()).frame
    assert frame["value"].item() == pytest.approx(1, abs=1e-5)


def test_the_context_offers_what_was_given():
    seen = []

    class Look(cs.AbstractMetric):
        name = "look"

        def measure(self, context):
            seen.append(context)
            return 0

    model, metrics = llama(), [Look(), cs.Perplexity(TEXT, 32)]
    reference = cs.DigitalReference(model)
    cs.evaluate(model, metrics, TOKENIZER, reference)
    cs.evaluate(model, Look())
    cs.sweep(model, PCM, "1s", metrics=metrics, tokenizer=TOKENIZER)
    first, alone, digital, mapped = seen
    assert isinstance(first, cs.MetricContext)
    assert (first.model, first.tokenizer, first.reference, first.digital) == (model, TOKENIZER, reference, model)
    assert (alone.model, alone.tokenizer, alone.reference, alone.digital) == (model, None, None, None)
    assert (digital.model, digital.tokenizer, digital.digital) == (model, TOKENIZER, model)
    assert (type(mapped.model), mapped.tokenizer, mapped.digital) == (type(model), TOKENIZER, model)
    assert hasattr(mapped.model, "chip")


def test_a_metric_that_needs_a_tokenizer_gets_that_of_the_model(llama_folder):
    class Letters(cs.AbstractMetric):
        name = "letters"
        needs_tokenizer = True

        def measure(self, context):
            return len(context.tokenizer("w3 w4 w5")["input_ids"])

    model, _ = cs.load_model(str(llama_folder))
    assert cs.evaluate(model, Letters()) == {"letters": 3.0}
    with pytest.raises(cs.UsageError, match="tokenizer: the model does not say where it came from; give its tokenizer"):
        cs.evaluate(Vision(), Letters())


def constant(value, name="constant"):
    class Constant(cs.AbstractMetric):
        def __init__(self):
            self.name = name

        def measure(self, context):
            return value

    return Constant()


NUMBERS = [
    *(np.dtype(kind).type(3) for kind in "fdeilqbBHh"),
    *(torch.tensor(3, dtype=kind) for kind in (torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.uint8)),
    *(np.array(3.0), torch.tensor(3.0, requires_grad=True), 3, 3.0, Fraction(3)),
]


@pytest.mark.parametrize("value", NUMBERS, ids=lambda value: f"{type(value).__name__} {getattr(value, 'dtype', '')}")
def test_numbers_of_every_kind_become_floats(value):
    found = cs.evaluate(Vision(), constant(value))["constant"]
    assert (type(found), found) == (float, 3.0)


NO_NUMBERS = [
    *(None, True, np.True_, torch.tensor(True), "3", 3j, np.complex64(3), torch.tensor(3j), [3.0], (3.0,), {"a": 3.0}),
    *(torch.tensor([3.0]), np.array([3.0]), np.ones((2, 2)), torch.ones(2, 2), object()),
]


@pytest.mark.parametrize("value", NO_NUMBERS, ids=lambda value: type(value).__name__)
def test_anything_else_is_refused_by_name(value):
    with pytest.raises(cs.UsageError) as error:
        cs.evaluate(Vision(), constant(value, "mine"))
    assert str(error.value).startswith("metric 'mine': measure() returned a ")
    assert str(error.value).endswith("; it must return a single real number")


@pytest.mark.parametrize("value", [10**400, Fraction(10**400), torch.tensor(1.0, device="meta"), np.ma.masked])
def test_numbers_that_have_no_float_are_refused_by_name(value):
    with pytest.raises(cs.UsageError, match="metric 'mine': measure\\(\\) returned a "):
        cs.evaluate(Vision(), constant(value, "mine"))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"reference": Vision()}, "reference is a Vision: must be a DigitalReference"),
        ({"metrics": None}, "metrics = None: must be a metric or a list"),
        ({"metrics": 5}, "metrics = 5: must be a metric or a list"),
        ({"model": 5}, "model = 5: must be a torch.nn.Module"),
        ({"model": None}, "model = None: must be a torch.nn.Module"),
        ({"metrics": cs.Perplexity(TEXT), "tokenizer": "gpt2"}, "tokenizer = 'gpt2': must be a tokenizer"),
    ],
)
def test_arguments_of_another_kind_are_refused_by_name(options, text):
    with pytest.raises(cs.UsageError) as error:
        cs.evaluate(**{"model": Vision(), "metrics": constant(1), **options})
    assert str(error.value).startswith(text)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", [None, "", " ", 3, ("a",)])
def test_names_are_texts(name):
    with pytest.raises(cs.UsageError) as error:
        cs.evaluate(Vision(), constant(1, name))
    assert str(error.value) == f"metrics: Constant.name = {name!r}: must be a text that is not empty"


def test_metrics_without_a_name_or_with_the_same_are_refused():
    class Nameless(cs.AbstractMetric):
        def measure(self, context):
            return 0

    with pytest.raises(cs.UsageError, match=r"metrics: Nameless.name = None: must be a text that is not empty"):
        cs.evaluate(Vision(), Nameless())
    with pytest.raises(cs.UsageError, match="metrics: a appears more than once; measure one at a time"):
        cs.sweep(Vision(), PCM, "1s", metrics=[constant(1, "a"), constant(2, "a")])
    with pytest.raises(TypeError, match="measure"):
        type("Nothing", (cs.AbstractMetric,), {"name": "nothing"})()


class Thing:
    pass


@dataclass
class Recorded(cs.AbstractMetric):
    name: str = "own"
    value: object = field(default=1, repr=False)

    def measure(self, context):
        return 1


@dataclass(frozen=True)
class Frozen(cs.AbstractMetric):
    value: object
    name = "own"

    def measure(self, context):
        return 1


class Plainly(cs.AbstractMetric):
    name = "own"

    def __init__(self, value):
        self.value = value

    def measure(self, context):
        return 1


def with_class_attribute(value):
    class Own(cs.AbstractMetric):
        name = "own"
        measured = value

        def measure(self, context):
            return 1

    return Own()


def scaled(factor):
    return lambda x: factor * x


MAKERS = [lambda value: Recorded(value=value), Frozen, Plainly]
PAIRS = [
    (1, 2),
    (1.0, 1.5),
    ("a", "b"),
    (None, 0),
    ((1, 2), (2, 1)),
    ({"a": 1}, {"a": 2}),
    ({1, 2}, {1, 3}),
    (torch.zeros(3), torch.ones(3)),
    (torch.zeros(3), torch.zeros(3, dtype=torch.float64)),
    (np.zeros(3), np.zeros(4)),
    ([torch.zeros(2)], [torch.ones(2)]),
    (np.float32(1), np.float32(2)),
    (torch.relu, torch.tanh),
    (np.mean, np.median),
    (scaled(1), scaled(2)),
    (lambda x: x + 1, lambda x: x - 1),
    (lambda x: x + 1, lambda x: x + 2),
    (lambda x: x.real, lambda x: x.imag),
    (lambda x, k=1: x, lambda x, k=2: x),
    (functools.partial(max, 1), functools.partial(max, 2)),
    (nn.Linear, nn.Conv1d),
    (nn.Dropout(0.1), nn.Dropout(0.2)),
    (b"a", b"b"),
]  # fmt: skip


@pytest.mark.parametrize("make", MAKERS, ids=["dataclass", "frozen", "plain"])
@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: f"{type(pair[0]).__name__}")
def test_a_folder_of_another_metric_is_refused(tmp_path, make, pair):
    first, second = pair
    model = Vision()
    cs.sweep(model, PCM, "1s", metrics=make(first), out=tmp_path)
    cs.sweep(model, PCM, "1s", metrics=make(first), out=tmp_path)
    with pytest.raises(cs.StoreError) as error:
        cs.sweep(model, PCM, "1s", metrics=make(second), out=tmp_path)
    assert str(error.value) == f"{tmp_path}: holds a sweep with another metric 'own'; choose another `out`"


def test_what_a_class_says_belongs_to_a_metric(tmp_path):
    cs.sweep(Vision(), PCM, "1s", metrics=with_class_attribute(5), out=tmp_path)
    with pytest.raises(cs.StoreError, match="holds a sweep with another metric 'own'"):
        cs.sweep(Vision(), PCM, "1s", metrics=with_class_attribute(6), out=tmp_path)
    with pytest.raises(cs.StoreError, match="holds a sweep with another metric 'own'"):
        cs.sweep(Vision(), PCM, "1s", metrics=Plainly(5), out=tmp_path)


CLASSES = [
    ("data = [1.0]", "data = [2.0]"),
    ("data = {'a': 1}", "data = {'a': 2}"),
    ("data = torch.zeros(1)", "data = torch.ones(1)"),
    ("def helper(self): return 1", "def helper(self): return 2"),
    ("@property\n    def helper(self): return 1", "@property\n    def helper(self): return 2"),
    ("@staticmethod\n    def helper(): return 1", "@staticmethod\n    def helper(): return 2"),
    ("def helper(self, k=1): return k", "def helper(self, k=2): return k"),
    ("@torch.no_grad()\n    def helper(self): return 1", "@torch.no_grad()\n    def helper(self): return 2"),
    ("def helper(self): return [i * 1 for i in ()]", "def helper(self): return [i * 3 for i in ()]"),
]


@pytest.mark.parametrize("bodies", CLASSES)
def test_attributes_and_code_of_a_class_belong_to_a_metric(bodies):
    def identity(body):
        space = {"cs": cs, "torch": torch, "__name__": __name__}
        exec(f"class Own(cs.AbstractMetric):\n    name = 'own'\n    {body}\n    measure = None", space)
        space["Own"].__abstractmethods__ = frozenset()
        return metric_identity(space["Own"]())

    first, second = bodies
    assert identity(first) == identity(first) != identity(second)


def test_a_metric_that_changes_the_mode_does_not_change_the_next_one(tmp_path):
    class Training(cs.AbstractMetric):
        name = "training"

        def measure(self, context):
            context.model.train()
            context.digital.train()
            return 1

    class Modes(cs.AbstractMetric):
        name = "modes"

        def measure(self, context):
            return sum(module.training for model in (context.model, context.digital) for module in model.modules())

    model, digital = Vision(), Vision().eval()
    found = cs.evaluate(model, [Training(), Modes()], reference=cs.DigitalReference(digital))
    assert found["modes"] == 0
    assert all(module.training for module in model.modules())
    assert not any(module.training for module in digital.modules())


@pytest.mark.parametrize("value", [Thing(), [Thing()], {"a": (1, Thing())}, iter([1]), torch.Generator()])
def test_what_cannot_be_told_apart_is_refused_before_the_work(tmp_path, value):
    cs.sweep(Vision(), PCM, "1s", metrics=Plainly(value))  # nothing needs to be told apart
    with pytest.raises(cs.UsageError) as error:
        cs.sweep(Vision(), PCM, "1s", metrics=Plainly(value), out=tmp_path / "out")
    assert str(error.value).startswith("metric 'own': value")
    assert str(error.value).endswith(
        "which cannot be told from another; give the metric a method identity() that returns plain data"
    )
    assert not (tmp_path / "out").exists()


def test_a_metric_may_say_what_it_is(tmp_path):
    class Saying(Plainly):
        def identity(self):
            return {"version": self.version}

    def saying(version):
        metric = Saying(Thing())
        metric.version = version
        return metric

    cs.sweep(Vision(), PCM, "1s", metrics=saying(1), out=tmp_path)
    cs.sweep(Vision(), PCM, "1s", metrics=saying(1), out=tmp_path)
    with pytest.raises(cs.StoreError, match="holds a sweep with another metric 'own'"):
        cs.sweep(Vision(), PCM, "1s", metrics=saying(2), out=tmp_path)


@pytest.mark.parametrize(
    ("name", "value"),
    [("padding_side", "left"), ("truncation_side", "left"), ("model_max_length", 7), ("chat_template", "{{ x }}")],
)
def test_settings_of_a_tokenizer_count(name, value):
    tokenizer = word_tokenizer()
    setattr(tokenizer, name, value)
    assert tokenizer_identity(tokenizer) != tokenizer_identity(word_tokenizer())


def test_a_tokenizer_given_to_a_metric_of_ones_own_belongs_to_the_sweep(tmp_path):
    def run(tokenizer):
        return cs.sweep(Vision(), PCM, "1s", metrics=Plainly(1), tokenizer=tokenizer, out=tmp_path)

    run(word_tokenizer())
    run(word_tokenizer())
    for other in (word_tokenizer(("<s>",)), word_tokenizer(bos_token="<s>"), word_tokenizer(eos_token="</s>")):
        with pytest.raises(cs.StoreError, match="holds a sweep with another tokenizer; choose another `out`"):
            run(other)
