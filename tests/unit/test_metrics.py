"""Metrics against numbers worked out by hand, on a model whose logits are known."""

import json
import math
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import crossbar_sim as cs
from crossbar_sim.study.metrics import DigitalReference, RememberingTokenizer, token_windows

LETTERS = "abcdefgh é"


def tokenizer(text, **_):
    """One token per letter; a continuation may begin with a space."""
    return {"input_ids": [LETTERS.index(letter) for letter in text]}


class Bigram(nn.Module):
    """Next-token logits that depend on the present token only, as a table (present, next)."""

    def __init__(self, seed=0, spread=2.0):
        super().__init__()
        rng = np.random.default_rng(seed)
        self.table = nn.Parameter(torch.from_numpy(rng.normal(size=(len(LETTERS),) * 2) * spread).float())
        self.n_calls = 0

    def forward(self, input_ids, attention_mask=None, use_cache=None):
        self.n_calls += 1
        return SimpleNamespace(logits=self.table[input_ids])

    def log_p(self, present, following):
        row = self.table.detach().double().numpy()[LETTERS.index(present)]
        return row[LETTERS.index(following)] - math.log(np.exp(row).sum())


TEXT = "abcdefghhgfedcbaacegbdfhabab"  # 28 tokens


def pairs(window, n_windows=None):
    """(present, next) of every scored token."""
    windows = [TEXT[i : i + window] for i in range(0, len(TEXT) - window + 1, window)][:n_windows]
    return [pair for w in windows for pair in pairwise(w)]


@pytest.mark.parametrize(("window", "max_windows"), [(28, None), (8, None), (8, 2), (2, None), (5, 100)])
def test_text_metrics(window, max_windows):
    model, other = Bigram(), Bigram(seed=1)
    chosen = [kind(TEXT, window, max_windows) for kind in (cs.Perplexity, cs.NextTokenAccuracy, cs.KLToDigital)]
    found = cs.evaluate(model, chosen, tokenizer, DigitalReference(other))
    scored = pairs(window, max_windows)
    assert len(scored) == (window - 1) * min(28 // window, max_windows or 28)

    mean = sum(model.log_p(*pair) for pair in scored) / len(scored)
    hits = [max(LETTERS, key=lambda c, p=p: model.log_p(p, c)) == n for p, n in scored]
    kl = [
        sum(math.exp(other.log_p(p, c)) * (other.log_p(p, c) - model.log_p(p, c)) for c in LETTERS) for p, _ in scored
    ]
    assert list(found) == ["perplexity", "next_token_accuracy", "kl_to_digital"]
    assert found["perplexity"] == pytest.approx(math.exp(-mean), rel=1e-5)
    assert found["next_token_accuracy"] == pytest.approx(sum(hits) / len(hits), abs=1e-12)
    assert found["kl_to_digital"] == pytest.approx(sum(kl) / len(kl), rel=1e-5)


@pytest.mark.parametrize("at_once", [1, 2, 3, 9])
def test_windows_may_go_through_the_model_together(at_once):
    model, other = Bigram(), Bigram(seed=1)
    kinds = (cs.Perplexity, cs.KLToDigital)
    expected = cs.evaluate(model, [kind(TEXT, 5) for kind in kinds], tokenizer, DigitalReference(other))
    model.n_calls = 0
    together = [kind(TEXT, 5, windows_at_once=at_once) for kind in kinds]
    found = cs.evaluate(model, together, tokenizer, DigitalReference(other))
    assert found == pytest.approx(expected, rel=1e-6)
    assert model.n_calls == math.ceil(5 / at_once)


def test_a_uniform_model_is_as_perplexed_as_its_vocabulary():
    assert cs.evaluate(Bigram(spread=0.0), [cs.Perplexity(TEXT, 14)], tokenizer) == {
        "perplexity": pytest.approx(len(LETTERS))
    }


def test_a_model_that_rules_the_text_out():
    model = Bigram(spread=0.0)
    with torch.no_grad():
        model.table[:, 8] = 1e4  # all mass on the space, which never comes
    assert cs.evaluate(model, [cs.Perplexity(TEXT, 14)], tokenizer) == {"perplexity": math.inf}


def test_no_number_is_not_hidden():
    model = Bigram()
    with torch.no_grad():
        model.table[0] = math.nan
    assert math.isnan(cs.evaluate(model, [cs.Perplexity(TEXT, 14)], tokenizer)["perplexity"])


def test_divergence_from_itself_is_zero():
    model = Bigram()
    found = cs.evaluate(model, [cs.KLToDigital(TEXT, 14)], tokenizer, DigitalReference(model))
    assert abs(found["kl_to_digital"]) < 1e-7


def test_metrics_of_one_text_share_a_pass():
    model, other = Bigram(), Bigram(1)
    reference = DigitalReference(other)
    chosen = [cs.Perplexity(TEXT, 7), cs.NextTokenAccuracy(TEXT, 7), cs.KLToDigital(TEXT, 7)]
    cs.evaluate(model, chosen, tokenizer, reference)
    cs.evaluate(model, chosen, tokenizer, reference)
    assert (model.n_calls, other.n_calls) == (8, 4)


def test_reference_is_right_where_it_cannot_keep_anything(monkeypatch):
    chosen = [cs.KLToDigital(TEXT, 7)]
    kept = cs.evaluate(Bigram(), chosen, tokenizer, DigitalReference(Bigram(1)))
    monkeypatch.setattr("crossbar_sim.study.metrics._CACHE_BYTES", 100)
    other = Bigram(1)
    reference = DigitalReference(other)
    for _ in range(2):
        assert cs.evaluate(Bigram(), chosen, tokenizer, reference) == kept
    assert other.n_calls == 8


def test_a_remembered_text_is_encoded_once_for_each_way_to_encode_it():
    calls = []

    def encode(text, **options):
        calls.append((text, options))
        return {"input_ids": [len(text), len(options)]}

    remembering = RememberingTokenizer(encode)
    for text, options in (("ab", {}), ("abc", {}), ("ab", {"special": True})) * 2:
        assert remembering(text, **options) == encode(text, **options)
    assert len(calls) == 6 + 3


def test_windows():
    found = token_windows(TEXT, tokenizer, 9, None)
    assert ["".join(LETTERS[i] for i in w[0]) for w in found] == [TEXT[:9], TEXT[9:18], TEXT[18:27]]
    assert [w.shape for w in token_windows(TEXT, tokenizer, 9, 2)] == [(1, 9), (1, 9)]


@pytest.mark.parametrize(
    ("metric", "text"),
    [
        (lambda: cs.Perplexity(""), "Perplexity.text: is empty; give the text to score"),
        (lambda: cs.NextTokenAccuracy(" \n"), "NextTokenAccuracy.text: is empty; give the text to score"),
        (lambda: cs.KLToDigital(None), "KLToDigital.text: is empty; give the text to score"),
        (lambda: cs.Perplexity("a", window=1), "Perplexity.window = 1: must be a whole number of at least 2"),
        (lambda: cs.Perplexity("a", window=True), "Perplexity.window = True: must be a whole number of at least 2"),
        (lambda: cs.Perplexity("a", window=8.0), "Perplexity.window = 8.0: must be a whole number of at least 2"),
        (lambda: cs.Perplexity("a", windows_at_once=0), "Perplexity.windows_at_once = 0: must be at least 1"),
        (lambda: cs.Perplexity("a", max_windows=0), "Perplexity.max_windows = 0: must be at least 1, or None"),
    ],
)
def test_refused_text_metrics(metric, text):
    with pytest.raises(cs.UsageError) as error:
        metric()
    assert str(error.value) == text


def evaluate(metrics, **options):
    return cs.evaluate(Bigram(), metrics, tokenizer, **options)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (
            lambda: evaluate([cs.Perplexity("abc", window=4)]),
            "text: has 3 tokens, fewer than one window of 4; give more text or a smaller window",
        ),
        (lambda: evaluate([]), "metrics: give at least one, e.g. Perplexity(text)"),
        (
            lambda: evaluate(["perplexity"]),
            "metrics: 'perplexity' is not a metric; give objects such as Perplexity(text)",
        ),
        (
            lambda: evaluate([cs.Perplexity(TEXT, 4), cs.Perplexity(TEXT, 8)]),
            "metrics: perplexity appears more than once; measure one at a time",
        ),
        (
            lambda: evaluate([cs.KLToDigital(TEXT, 4)]),
            "reference: needed by KLToDigital; give DigitalReference(digital_model)",
        ),
        (
            lambda: cs.evaluate(Bigram(), [cs.Perplexity(TEXT, 4)]),
            "tokenizer: the model does not say where it came from; give its tokenizer",
        ),
    ],
)
def test_refused_evaluations(call, text):
    with pytest.raises(cs.UsageError) as error:
        call()
    assert str(error.value) == text


def test_one_metric_need_not_be_a_list():
    assert evaluate(cs.Perplexity(TEXT, 4)) == evaluate([cs.Perplexity(TEXT, 4)])


MC = [
    {"type": "mc", "context": "abc", "choices": ["d", "efgh", "hh hh"], "answer": 0},
    {"type": "mc", "context": "h", "choices": ["a", "bcd"], "answer": 1},
    {"type": "mc", "context": "fed", "choices": ["cccccccc", "b", "a b"], "answer": 2},
    {"type": "mc", "context": "é", "choices": ["éé", "ab", "ééé a"], "answer": 0},
]
MC_CONTEXT = [
    {"type": "mc_context", "contexts": ["ab", "gh"], "continuation": "cde", "answer": 0},
    {"type": "mc_context", "contexts": ["abcdefgh", "a"], "continuation": "h", "answer": 1},
]


def best(model, item, normalise):
    """The choice by plain sums of log-probabilities."""
    if item["type"] == "mc":
        options = [(item["context"], choice) for choice in item["choices"]]
    else:
        options = [(context, item["continuation"]) for context in item["contexts"]]
    scores = []
    for context, choice in options:
        whole = context + " " + choice
        score = sum(model.log_p(whole[i - 1], whole[i]) for i in range(len(context), len(whole)))
        scores.append(score / len(choice.encode()) if normalise else score)
    return scores.index(max(scores))


@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize("items", [MC, MC_CONTEXT, MC + MC_CONTEXT])
def test_multiple_choice(items, normalise):
    accuracies = set()
    for seed in range(20):
        model = Bigram(seed)
        expected = sum(best(model, item, normalise) == item["answer"] for item in items) / len(items)
        name = "multiple_choice_acc_norm" if normalise else "multiple_choice_acc"
        assert cs.evaluate(model, [cs.MultipleChoice(items, normalise=normalise)], tokenizer) == {name: expected}
        accuracies.add(expected)
    assert len(accuracies) > 1


def test_multiple_choice_from_a_file(tmp_path):
    path = tmp_path / "easy.jsonl"
    path.write_text("\n".join(json.dumps(item) for item in MC) + "\n\n", encoding="utf-8")
    metrics = [cs.MultipleChoice(path), cs.MultipleChoice(str(path), normalise=True)]
    assert [metric.name for metric in metrics] == ["easy_acc", "easy_acc_norm"]
    found = cs.evaluate(Bigram(3), metrics, tokenizer)
    assert list(found.values()) == [
        sum(best(Bigram(3), i, n) == i["answer"] for i in MC) / len(MC) for n in (False, True)
    ]
    assert cs.MultipleChoice(path, limit=2).load() == MC[:2]
    assert cs.MultipleChoice(path).identity() == cs.MultipleChoice(MC).identity()


def test_lines_end_at_newlines_only(tmp_path):
    """JSON allows other line separators inside a text."""
    path = tmp_path / "web.jsonl"
    item = {**MC[0], "context": "a\u2028b\x85c"}
    path.write_text(json.dumps(item, ensure_ascii=False) + "\n", encoding="utf-8")
    assert cs.MultipleChoice(path).load() == [item]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"type": "cloze"}, 'MultipleChoice.items[1].type = \'cloze\': must be "mc" or "mc_context"'),
        ({"type": None}, 'MultipleChoice.items[1].type = None: must be "mc" or "mc_context"'),
        ({"context": ...}, "MultipleChoice.items[1].context: required, but not given"),
        ({"choices": ...}, "MultipleChoice.items[1].choices: required, but not given"),
        ({"answer": ...}, "MultipleChoice.items[1].answer: required, but not given"),
        ({"answer": 2}, "MultipleChoice.items[1].answer = 2: must be an index of the choices"),
        ({"answer": -1}, "MultipleChoice.items[1].answer = -1: must be an index of the choices"),
        ({"answer": "1"}, "MultipleChoice.items[1].answer = '1': must be an index of the choices"),
        ({"type": "mc_context"}, "MultipleChoice.items[1].contexts: required, but not given"),
    ],
)
def test_bad_items(change, text):
    bad = {key: value for key, value in {**MC[1], **change}.items() if value is not ...}
    with pytest.raises(cs.UsageError) as error:
        cs.MultipleChoice([MC[0], bad])
    assert str(error.value) == text


@pytest.mark.parametrize("choices", [["a", ""], ["a", " "], "ab", ["a", 3]])
def test_choices_must_be_texts(choices):
    with pytest.raises(cs.UsageError, match=r"MultipleChoice.items\[0\].choices"):
        cs.MultipleChoice([{**MC[0], "choices": choices}])


@pytest.mark.parametrize("limit", [0, -1, True, 1.5])
def test_bad_limit(limit):
    with pytest.raises(cs.UsageError, match=r"MultipleChoice\.(limit|items)"):
        cs.MultipleChoice(MC, limit=limit)


def test_no_items():
    with pytest.raises(cs.UsageError, match=r"MultipleChoice\.items: holds no item"):
        cs.MultipleChoice([])


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b'{"type": "mc"\n', "line 1: is not JSON"),
        (json.dumps(MC[0]).encode() + b"\nnonsense\n", "line 2: is not JSON"),
        (b"\xff\xfe", "cannot be read"),
    ],
)
def test_bad_files(tmp_path, content, text):
    path = tmp_path / "items.jsonl"
    path.write_bytes(content)
    with pytest.raises(cs.StoreError) as error:
        cs.MultipleChoice(path)
    assert text in str(error.value)
    assert str(path) in str(error.value)


def test_missing_file(tmp_path):
    with pytest.raises(cs.StoreError, match=r"nothing.jsonl: cannot be read"):
        cs.MultipleChoice(tmp_path / "nothing.jsonl")


def test_line_that_is_no_item(tmp_path):
    path = tmp_path / "items.jsonl"
    path.write_text("[1, 2]\n")
    with pytest.raises(cs.UsageError, match=r'MultipleChoice.items\[0\].type = None: must be "mc" or "mc_context"'):
        cs.MultipleChoice(path)


class OneLayer(nn.Module):
    """A next-token model with a linear layer, so that it can go on a chip."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embedding, self.head = nn.Embedding(10, 16), nn.Linear(16, 10)

    def forward(self, input_ids, attention_mask=None, use_cache=None):
        return SimpleNamespace(logits=self.head(self.embedding(input_ids)))


def test_ideal_chip_does_not_diverge_and_a_bad_one_does():
    model = OneLayer()
    metric = cs.KLToDigital(TEXT, 14)
    chips = [cs.ChipSpec.preset("ideal"), cs.ChipSpec.preset("pcm_1m").evolve(**{"device.program_scale": 5.0})]
    kl = [
        cs.evaluate(cs.map_model(model, chip), [metric], tokenizer, DigitalReference(model))["kl_to_digital"]
        for chip in chips
    ]
    assert abs(kl[0]) < 1e-7
    assert kl[1] > 1e-3


@pytest.mark.parametrize("items", [None, 5, {"a": 1}, b"x", iter(MC)])
def test_items_of_another_kind_are_refused(items):
    with pytest.raises(
        cs.UsageError, match=r"MultipleChoice.items is a \w+: must be the path of a JSONL file or a list"
    ):
        cs.MultipleChoice(items)


@pytest.mark.parametrize("choices", [None, 5, {"a": "b"}, {"a", "b"}, "ab", [None], iter(["a", "b"])])
def test_choices_of_another_kind_are_refused(choices):
    with pytest.raises(cs.UsageError, match=r"MultipleChoice.items\[0\].choices: must be a list of texts"):
        cs.MultipleChoice([{**MC[0], "choices": choices}])


def test_items_nested_too_deeply_are_refused(tmp_path):
    path = tmp_path / "deep.jsonl"
    path.write_text("[" * 100_000)
    with pytest.raises(cs.StoreError, match="line 1: is not JSON"):
        cs.MultipleChoice(path)


def test_items_after_a_byte_order_mark(tmp_path):
    path = tmp_path / "marked.jsonl"
    path.write_text(json.dumps(MC[0]), encoding="utf-8-sig")
    assert cs.MultipleChoice(path).load() == [MC[0]]
