"""Which tokens metrics of text read: what tokenizers put in front, empty contexts, and texts that are too long."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_language_models import TEXT, WORDS, llama, log_probs, word_tokenizer

import crossbar_sim as cs
from crossbar_sim.study.metrics import DigitalReference, RememberingTokenizer, token_windows

FRONTS = [(), ("<s>",), ("<s>", "</s>")]
MODEL = llama().eval()
IDS = [WORDS.index(word) + 3 for word in TEXT.split()]


def front_ids(front):
    return [{"<s>": 1, "</s>": 2}[token] for token in front]


@pytest.mark.parametrize("back", [(), ("</s>",)])
@pytest.mark.parametrize("front", FRONTS)
@pytest.mark.parametrize("window", [9, 16])
def test_every_window_begins_with_what_the_tokenizer_puts_in_front(front, back, window):
    tokenizer, prefix = word_tokenizer(front, back), front_ids(front)
    step = window - len(prefix)
    expected = [prefix + IDS[i : i + step] for i in range(0, len(IDS) - step + 1, step)]
    assert [w[0].tolist() for w in token_windows(TEXT, tokenizer, window, None)] == expected
    found = cs.evaluate(
        MODEL,
        [kind(TEXT, window) for kind in (cs.Perplexity, cs.NextTokenAccuracy, cs.KLToDigital)],
        RememberingTokenizer(tokenizer),
        DigitalReference(MODEL),
    )
    first = max(1, len(prefix))  # tokens of the prefix are not scored
    losses, hits = [], []
    for tokens in expected:
        rows = log_probs(MODEL, tokens)
        losses += [-float(rows[i - 1, tokens[i]]) for i in range(first, window)]
        hits += [int(rows[i - 1].argmax()) == tokens[i] for i in range(first, window)]
    assert found["perplexity"] == pytest.approx(math.exp(sum(losses) / len(losses)), rel=1e-5)
    assert found["next_token_accuracy"] == pytest.approx(sum(hits) / len(hits), abs=1e-12)
    assert found["kl_to_digital"] == pytest.approx(0, abs=1e-7)


@pytest.mark.parametrize("front", FRONTS[1:])
def test_what_the_text_has_in_front_is_not_doubled(front):
    tokenizer, prefix = word_tokenizer(front), front_ids(front)
    text = " ".join([*front, TEXT])
    assert token_windows(text, tokenizer, 10, 1)[0][0].tolist()[: len(prefix) + 1] == [*prefix, IDS[0]]


def test_a_prefix_that_fills_the_window_is_refused():
    with pytest.raises(cs.UsageError, match="window = 2: the tokenizer puts 2 tokens in front, and none is left"):
        cs.evaluate(MODEL, cs.Perplexity(TEXT, 2), word_tokenizer(FRONTS[2]))


def by_hand(item, tokenizer, limit, front):
    """Scores of an item by the conventions of lm-evaluation-harness, one sequence at a time."""
    prefix = front_ids(front)
    ids = lambda text: tokenizer(text, add_special_tokens=False)["input_ids"]  # noqa: E731
    if item["type"] == "mc":
        pairs = [(item["context"], " " + choice) for choice in item["choices"]]
    else:
        pairs = [(context, " " + item["continuation"]) for context in item["contexts"]]
    scores = []
    for context, continuation in pairs:
        before = prefix + ids(context) or [tokenizer.bos_token_id or tokenizer.eos_token_id]
        whole = before + ids(continuation)
        read = whole[-(limit + 1) :][:-1]
        rows = log_probs(MODEL, read)
        wanted = ids(continuation)
        scores.append(sum(float(row[token]) for row, token in zip(rows[-len(wanted) :], wanted, strict=True)))
    return scores


words = st.lists(st.sampled_from(WORDS), min_size=1, max_size=4).map(" ".join)
contexts = st.tuples(st.integers(0, 75), st.integers(0, 60), st.sampled_from(["", " ", "  \n"])).map(
    lambda parts: " ".join(TEXT.split()[parts[1] : parts[1] + parts[0]]) + parts[2]
)
choices = st.lists(words, min_size=2, max_size=4)
items = st.one_of(
    st.builds(lambda context, options: {"type": "mc", "context": context, "choices": options}, contexts, choices),
    st.builds(
        lambda options, text: {"type": "mc_context", "contexts": options, "continuation": text},
        st.lists(contexts, min_size=2, max_size=3),
        words,
    ),
)  # fmt: skip


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(
    items,
    st.sampled_from(FRONTS),
    st.sampled_from(["bos_token", "eos_token"]),
    st.sampled_from(["bytes", "characters"]),
)
def test_multiple_choice_follows_the_harness(item, front, special, normalise):
    """Contexts of any length, empty and ending in spaces; BOS or none; the model reads 64 tokens."""
    tokenizer = word_tokenizer(front, **{special: "<s>"})
    scores = by_hand(item, tokenizer, 64, front)
    texts = item.get("choices") or [item["continuation"]] * len(item["contexts"])
    for kind, own in ((False, scores), (normalise, [s / len(t) for s, t in zip(scores, texts, strict=True)])):
        ranked = sorted(own, reverse=True)
        if len(ranked) > 1 and ranked[0] - ranked[1] < 1e-4:
            continue  # a tie, or nearly
        answer = own.index(ranked[0])
        metric = cs.MultipleChoice([{**item, "answer": answer}], normalise=kind)
        assert cs.evaluate(MODEL, metric, tokenizer)[metric.name] == 1.0


@pytest.mark.parametrize(
    ("normalise", "name"),
    [
        (False, "multiple_choice_acc"),
        (True, "multiple_choice_acc_norm"),
        ("bytes", "multiple_choice_acc_norm"),
        ("characters", "multiple_choice_acc_norm_characters"),
    ],
)
def test_lengths_in_bytes_and_in_characters(normalise, name):
    class Even(torch.nn.Module):
        """Every letter is as likely as the next: the shorter choice wins, unless scores are divided by lengths."""

        def forward(self, tokens):
            return type("Output", (), {"logits": torch.zeros(*tokens.shape, 300)})

    def letters(text, **_):
        return {"input_ids": [min(ord(letter), 299) for letter in text]}

    item = {"type": "mc", "context": "a", "choices": ["éééé", "abcdefg"]}  # 4 characters in 8 bytes, 7 in 7
    best = {False: 0, "characters": 1}.get(normalise, 0)
    # scores: -5 and -8 tokens of ln 300 (a space each); per byte -5/8 and -8/7; per character -5/4 and -8/7
    found = cs.evaluate(Even(), cs.MultipleChoice([{**item, "answer": best}], normalise=normalise), letters)
    assert found == {name: 1.0}


@pytest.mark.parametrize("normalise", [1, "chars", None, 0])
def test_bad_normalise(normalise):
    with pytest.raises(cs.UsageError, match=r"MultipleChoice.normalise = .*: must be True, False"):
        cs.MultipleChoice([{"type": "mc", "context": "a", "choices": ["b"], "answer": 0}], normalise=normalise)


ITEM = {"type": "mc", "context": "w3", "choices": ["w4", "w5"], "answer": 0}


@pytest.mark.parametrize("context", ["", " ", "\n \t"])
def test_an_empty_context_without_a_token_for_it_is_refused(context):
    with pytest.raises(cs.UsageError) as error:
        cs.evaluate(MODEL, cs.MultipleChoice([ITEM, {**ITEM, "context": context}]), word_tokenizer())
    assert str(error.value) == (
        "MultipleChoice.items[1]: its context is empty, and the tokenizer has no BOS or EOS token to stand for it"
    )


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"context": None}, "MultipleChoice.items[0].context = None: must be a text"),
        ({"type": "mc_context", "contexts": ["a"], "continuation": " "}, ".continuation = ' ': must be a text"),
        ({"type": "mc_context", "contexts": ["a"], "continuation": 3}, ".continuation = 3: must be a text"),
    ],
)
def test_items_that_are_no_text_are_refused(change, text):
    with pytest.raises(cs.UsageError) as error:
        cs.MultipleChoice([{**ITEM, **change}])
    assert text in str(error.value)


def test_a_continuation_longer_than_the_context_of_the_model_is_refused():
    long = {**ITEM, "choices": ["w4", " ".join(["w5"] * 65)]}
    with pytest.raises(cs.UsageError) as error:
        cs.evaluate(MODEL, cs.MultipleChoice([long]), word_tokenizer())
    assert str(error.value) == (
        "MultipleChoice.items[0]: a continuation has 65 tokens, and LlamaForCausalLM reads at most 64 "
        "(config.max_position_embeddings)"
    )


def test_a_continuation_that_adds_no_token_is_refused():
    def first_letter(text, **_):
        return {"input_ids": [3]}

    with pytest.raises(cs.UsageError, match=r"MultipleChoice.items\[0\]: ' w4' adds no token to its context"):
        cs.evaluate(MODEL, cs.MultipleChoice([ITEM]), first_letter)


def test_a_tokenizer_that_changes_the_text_with_special_tokens_is_refused():
    def odd(text, add_special_tokens=True, **_):
        return {"input_ids": [3 + add_special_tokens] * len(text)}

    with pytest.raises(cs.UsageError, match=r"tokenizer: function gives '.*' other tokens with special tokens than"):
        cs.evaluate(MODEL, cs.Perplexity(TEXT, 8), odd)
