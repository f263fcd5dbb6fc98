"""What several files of unit tests use."""

import sys

import pytest


@pytest.fixture
def call(monkeypatch, capsys):
    """Runs the command line in this process: (exit code, standard output, standard error)."""

    from crossbar_sim import cli

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["crossbar-sim", *map(str, arguments)])
        code = 0
        try:
            cli.main()
        except SystemExit as done:
            code = done.code or 0
        return (code, *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def llama_folder(tmp_path_factory):
    """A tiny Llama in bfloat16 and a tokenizer of the words w2 ... w39, as Hugging Face saves them; only to be read."""
    import torch

    transformers, tokenizers = (pytest.importorskip(name) for name in ("transformers", "tokenizers"))
    path = tmp_path_factory.mktemp("llama")
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=40,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=64,
        initializer_range=0.2,
        eos_token_id=1,
        bos_token_id=1,
    )
    transformers.LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(path)
    known = {"<unk>": 0, "<eos>": 1, **{f"w{i}": i for i in range(2, 40)}}
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel(known, unk_token="<unk>"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>", eos_token="<eos>")
    tokenizer.save_pretrained(path)
    return path
