"""Small language models and tokenizers that several tests of metrics use."""

import random

import pytest
import torch

transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")

SIZES = {
    "vocab_size": 40,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "initializer_range": 0.2,
}
WORDS = [f"w{i}" for i in range(3, 40)]
TEXT = " ".join([*WORDS, *random.Random(0).choices(WORDS, k=120)])


def build(name, **options):
    """A small model of a class of transformers, with the sizes that its configuration knows."""
    kind = getattr(transformers, name)
    known = kind.config_class()
    sizes = {name: value for name, value in SIZES.items() if hasattr(known, name)}
    torch.manual_seed(0)
    return kind(kind.config_class(**{**sizes, **options}))


def llama(**options):
    return build("LlamaForCausalLM", **options)


def word_tokenizer(front=(), back=(), **special):
    """One token for each of WORDS, between special tokens that it adds by default."""
    known = {"<unk>": 0, "<s>": 1, "</s>": 2, **{word: i for i, word in enumerate(WORDS, start=3)}}
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel(known, unk_token="<unk>"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    if front or back:
        words.post_processor = tokenizers.processors.TemplateProcessing(
            single=" ".join([*front, "$A", *back]), special_tokens=[(token, known[token]) for token in {*front, *back}]
        )
    return transformers.PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>", **special)


def log_probs(model, tokens):
    """(T, vocabulary) of a list of tokens, by itself."""
    with torch.no_grad():
        return model(torch.tensor([tokens])).logits[0].double().log_softmax(-1)
