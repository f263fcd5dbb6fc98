"""Names of layers without the wrappers that others put around a model: a wrapper must not choose other devices."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

_WRAPPERS = {
    "torch.nn.parallel.data_parallel.DataParallel": "module",
    "torch.nn.parallel.distributed.DistributedDataParallel": "module",
    "torch.optim.swa_utils.AveragedModel": "module",
    "torch._dynamo.eval_frame.OptimizedModule": "_orig_mod",
    "torch.distributed.fsdp.fully_sharded_data_parallel.FullyShardedDataParallel": "_fsdp_wrapped_module",
    "torch.distributed.algorithms._checkpoint.checkpoint_wrapper.ActivationWrapper": "_checkpoint_wrapped_module",
    "peft.peft_model.PeftModel": "base_model",
    "peft.tuners.tuners_utils.BaseTuner": "model",
    "peft.tuners.tuners_utils.BaseTunerLayer": "base_layer",
    "peft.utils.other.AuxiliaryTrainingWrapper": "original_module",
}
"""Classes that hold what they wrap in an attribute of this name."""


def unwrapped_names(model: nn.Module, names: Iterable[str]) -> dict[str, str]:
    """Each name as it would be without wrappers; where two would then be the same, both stay as they are."""
    names = list(names)
    short = {name: _unwrapped(model, name) for name in names}
    count: dict[str, int] = {}
    for name in short.values():
        count[name] = count.get(name, 0) + 1
    return {name: own if count[own] == 1 else name for name, own in short.items()}


def _unwrapped(model: nn.Module, name: str) -> str:
    module: nn.Module | None = model
    kept = []
    for part in name.split("."):
        if module is None or part != _wrapped_in(module):
            kept.append(part)
        module = module._modules.get(part) if module is not None else None
    return ".".join(kept) or "(root)"


def _wrapped_in(module: nn.Module) -> str | None:
    classes = [f"{each.__module__}.{each.__qualname__}" for each in type(module).__mro__]
    return next((_WRAPPERS[each] for each in classes if each in _WRAPPERS), None)
