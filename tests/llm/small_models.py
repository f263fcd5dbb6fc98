"""A small model with random weights of every class that transformers registers, where its configuration allows one.

As a script it prints which share of the matrix weights of each is on a chip: python tests/llm/small_models.py
"""

import contextlib
import os
import sys
import warnings

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import torch
import transformers
from transformers.models.auto import modeling_auto

SMALL = {
    "vocab_size": 96,
    "hidden_size": 32,
    "d_model": 32,
    "n_embd": 32,
    "dim": 32,
    "word_embed_proj_dim": 32,
    "emb_dim": 32,
    "embed_dim": 32,
    "embedding_size": 32,
    "intermediate_size": 48,
    "shared_intermediate_size": 48,
    "ffn_dim": 48,
    "n_inner": 48,
    "d_ff": 48,
    "d_inner": 48,
    "ffn_hidden_size": 48,
    "expert_ffn_hidden_size": 48,
    "dense_intermediate_size": 48,
    "moe_intermediate_size": 24,
    "moe_shared_expert_intermediate_size": 24,
    "shared_expert_intermediate_size": 24,
    "block_ff_dim": 48,
    "num_hidden_layers": 2,
    "n_layer": 2,
    "n_layers": 2,
    "num_layers": 2,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "num_encoder_layers": 2,
    "num_decoder_layers": 2,
    "num_attention_heads": 4,
    "n_head": 4,
    "n_heads": 4,
    "num_heads": 4,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_kv_heads": 2,
    "head_dim": 8,
    "d_kv": 8,
    "attention_head_dim": 8,
    "kv_lora_rank": 8,
    "q_lora_rank": 16,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 8,
    "qk_head_dim": 16,
    "v_head_dim": 8,
    "index_head_dim": 8,
    "index_n_heads": 2,
    "max_position_embeddings": 64,
    "n_positions": 64,
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "moe_num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_topk": 2,
    "moe_k": 2,
    "moe_top_k": 2,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 1,
    "mamba_d_state": 4,
    "mamba_n_heads": 4,
    "mamba_d_head": 16,
    "mamba_expand": 2,
    "mamba_n_groups": 1,
    "mamba_num_heads": 4,
    "mamba_head_dim": 16,
    "mamba_chunk_size": 16,
    "state_size": 4,
    "ssm_state_size": 4,
    "time_step_rank": 4,
    "mamba_dt_rank": 4,
    "n_groups": 1,
    "chunk_size": 16,
    "lru_width": 32,
    "attention_window_size": 16,
    "sliding_window": 16,
    "image_size": 16,
    "patch_size": 4,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_head_dim": 8,
    "zero_expert_num": 2,
    "conv_kernel_size": 4,
    "linear_value_head_dim": 8,
    "initializer_range": 0.2,
    "init_std": 0.2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 1,
    "is_decoder": True,
}
"""Fields of configurations by their many names; only those that a configuration has are set."""

OWN = {
    "bamba": {"attn_layer_indices": [1]},
    "codegen": {"rotary_dim": 8},
    "dots1": {"n_shared_experts": 1},
    "falcon_h1": {"mamba_d_ssm": 64},
    "gptj": {"rotary_dim": 8},
    "granitemoehybrid": {"layer_types": ["linear_attention", "full_attention"]},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2, "expert_layer_offset": 1},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"], "num_dense_layers": 0},
    "mamba2": {"num_heads": 8, "head_dim": 8},
    "nemotron_h": {"num_hidden_layers": 4, "layers_block_type": ["linear_attention", "moe", "full_attention", "mlp"]},
    "qwen2_moe": {"decoder_sparse_step": 1, "mlp_only_layers": []},
    "qwen3_moe": {"decoder_sparse_step": 1, "mlp_only_layers": []},
    "rwkv": {"attention_hidden_size": 32},
    "xlstm": {"embedding_dim": 32},
}
"""What single configurations need besides."""


def causal_names():
    """Every model type that transformers registers as a causal language model."""
    return sorted(modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


def small_model(name):
    """A causal language model of this type in evaluation mode, or an error where none can be built like this."""
    torch.manual_seed(0)
    config = _small_config(transformers.AutoConfig.for_model(name), name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return transformers.AutoModelForCausalLM.from_config(config).eval()


def _small_config(config, name):
    kind = type(config)
    given = config.to_dict()
    changes = {field: value for field, value in SMALL.items() if field in given or field in kind.attribute_map}
    changes = {field: value for field, value in changes.items() if not isinstance(given.get(field), list | dict)}
    if "kv_lora_rank" in given:
        changes["num_key_value_heads"] = SMALL["num_attention_heads"]
    for field, value in given.items():
        if isinstance(value, list) and field.endswith(("layer_types", "layers_block_type", "mlp_layer_types")):
            changes[field] = (list(dict.fromkeys(value)) * 2)[:2]
    changes.update(OWN.get(name, {}))
    for field in kind.sub_configs:
        own = getattr(config, field, None)
        if own is not None:
            _small_config(own, f"{name}.{field}")
    for field, value in changes.items():
        with contextlib.suppress(Exception):
            setattr(config, field, value)
    return config


def small_inputs():
    """Two texts of seven tokens."""
    return {"input_ids": torch.randint(3, 96, (2, 7), generator=torch.Generator().manual_seed(1))}


MAX_WEIGHTS = 4_000_000


def print_shares():
    """One line for each class: the share of its matrix weights on an ideal chip, or why there is none."""
    import crossbar_sim as cs

    for name in causal_names():
        try:
            model = small_model(name)
        except Exception as error:  # whatever a configuration of made-up numbers runs into
            print(f"{name:28} not built: {type(error).__name__}")
            continue
        try:
            coverage = cs.plan_model(model, cs.ChipSpec.preset("ideal")).coverage
        except cs.UsageError as error:
            print(f"{name:28} refused: {error}")
            continue
        digital = ", ".join(f"{pattern} ({reason})" for pattern, _, _, reason in coverage.groups())
        print(f"{name:28} {coverage.share_of_weights:7.2%} of {coverage.n_weights:10,}  {digital}")


if __name__ == "__main__":
    sys.exit(print_shares())
