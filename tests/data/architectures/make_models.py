"""Makes the small random models of this folder with transformers, and what it computes with them.

    python3 tests/data/architectures/make_models.py FOLDER [NAME...]

For every model a directory with config.json, model.safetensors (fp16), tokenizer.json (the 256 bytes and one
merge), ids.npy (int64 [tokens]) and logits.npy (float32 [tokens / 3, vocabulary], of every third token, computed in float32).
"""

import json
import pathlib
import sys

import numpy as np
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers.integrations.mxfp4 import FP4_VALUES, convert_moe_packed_tensors

SIZES = dict(hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
             num_key_value_heads=2, vocab_size=264, max_position_embeddings=512, rope_theta=10000.0,
             bos_token_id=0, eos_token_id=0, pad_token_id=None, tie_word_embeddings=True)
LONGROPE = dict(rope_type="longrope", type="longrope", short_factor=[1.0, 1.1, 1.2, 1.4, 1.7, 2.0],
                long_factor=[1.0, 1.5, 2.5, 4.0, 7.0, 12.0])
LATENT = dict(hidden_size=32, intermediate_size=64, num_attention_heads=2, num_key_value_heads=2, kv_lora_rank=32,
              qk_nope_head_dim=32, qk_rope_head_dim=16, v_head_dim=32, moe_intermediate_size=32,
              first_k_dense_replace=1)
MODELS = {
    "llama": ("LlamaConfig", dict(tie_word_embeddings=False, attention_bias=True, mlp_bias=True)),
    "mistral": ("MistralConfig", dict(sliding_window=7, head_dim=16)),
    "qwen2": ("Qwen2Config", {}),
    "qwen3": ("Qwen3Config", dict(head_dim=32)),
    "olmo2": ("Olmo2Config", dict(tie_word_embeddings=False)),
    # Not "phi3": of a model with that in its name llama.cpp expects tokens such as </s>.
    "phi4": ("Phi3Config", dict(tie_word_embeddings=False, original_max_position_embeddings=512)),
    # As Phi-4-mini: half of the tokens lie beyond the original context, where the long factors hold.
    "phi4-mini": ("Phi3Config", dict(max_position_embeddings=128, original_max_position_embeddings=24,
                                     partial_rotary_factor=0.75, rope_scaling=LONGROPE)),
    # Their places seed their weights, where they name no seed: new ones stand at the end.
    "gemma": ("GemmaConfig", dict(head_dim=32)),
    "gemma2": ("Gemma2Config", dict(head_dim=32, sliding_window=7, query_pre_attn_scalar=32,
                                    attn_logit_softcapping=1.5, final_logit_softcapping=2.0)),
    "gemma3": ("Gemma3TextConfig", dict(
        head_dim=32, num_attention_heads=2, num_key_value_heads=1, num_hidden_layers=6, intermediate_size=64,
        sliding_window=7, query_pre_attn_scalar=32, rope_parameters=dict(
            sliding_attention=dict(rope_type="default", rope_theta=1000.0),
            full_attention=dict(rope_type="linear", factor=8.0, rope_theta=100000.0)))),
    "smollm3": ("SmolLM3Config", dict(num_hidden_layers=4, intermediate_size=64)),
    "granite": ("GraniteConfig", dict(embedding_multiplier=6.0, attention_multiplier=0.2, residual_multiplier=0.4,
                                      logits_scaling=3.0, tie_word_embeddings=True)),
    "glm4": ("Glm4Config", dict(head_dim=32, attention_bias=True, tie_word_embeddings=False)),
    "olmo3": ("Olmo3Config", dict(
        num_hidden_layers=4, intermediate_size=64, sliding_window=7, tie_word_embeddings=False,
        max_position_embeddings=128, rope_parameters=dict(
            sliding_attention=dict(rope_type="default", rope_theta=10000.0),
            full_attention=dict(rope_type="yarn", factor=4.0, rope_theta=10000.0,
                                original_max_position_embeddings=32)))),
    "cohere2": ("Cohere2Config", dict(num_hidden_layers=4, intermediate_size=64, sliding_window=7,
                                      logit_scale=0.25)),
    "starcoder2": ("Starcoder2Config", {}),
    "ministral3": ("Ministral3Config", dict(
        head_dim=32, tie_word_embeddings=False, max_position_embeddings=128, rope_parameters=dict(
            rope_type="yarn", rope_theta=10000.0, factor=8.0, original_max_position_embeddings=16, beta_fast=4.0,
            beta_slow=1.0, mscale=1.0, mscale_all_dim=1.0, llama_4_scaling_beta=0.3))),
    "seed-oss": ("SeedOssConfig", dict(head_dim=32, attention_bias=True, tie_word_embeddings=False)),
    "exaone4": ("Exaone4Config", dict(head_dim=16, sliding_window=None, layer_types=["full_attention"] * 2)),
    # llama.cpp's graph has no sliding layers in so small a model.
    "exaone4-sliding": ("Exaone4Config", dict(head_dim=16, num_hidden_layers=4, intermediate_size=64,
                                              sliding_window=7)),
    "qwen3-moe": ("Qwen3MoeConfig", dict(head_dim=32, num_attention_heads=2, num_key_value_heads=1, num_experts=6,
                                         num_experts_per_tok=2, moe_intermediate_size=32, norm_topk_prob=True)),
    "mixtral": ("MixtralConfig", dict(num_local_experts=4, num_experts_per_tok=2, intermediate_size=32)),
    "qwen2-moe": ("Qwen2MoeConfig", dict(num_experts=4, num_experts_per_tok=2, moe_intermediate_size=32,
                                         shared_expert_intermediate_size=64, tie_word_embeddings=False)),
    "olmoe": ("OlmoeConfig", dict(num_experts=5, num_experts_per_tok=3, intermediate_size=32,
                                  num_key_value_heads=4, tie_word_embeddings=False)),
    # As the largest dense member: keys are the values of layers that do not slide.
    "gemma4": ("Gemma4TextConfig", dict(
        num_attention_heads=2, head_dim=16, global_head_dim=32, num_global_key_value_heads=1, attention_k_eq_v=True,
        num_hidden_layers=4, intermediate_size=64, sliding_window=7, hidden_size_per_layer_input=0, final_logit_softcapping=2.0,
        layer_types=["sliding_attention", "full_attention"] * 2, rope_theta=None), 20),
    # As the smaller members: an embedding for every layer, and the last two layers share keys and values.
    "gemma4-e2b": ("Gemma4TextConfig", dict(
        hidden_size=32, num_attention_heads=2, num_key_value_heads=1, head_dim=16, global_head_dim=32, num_hidden_layers=5,
        intermediate_size=32, sliding_window=7, hidden_size_per_layer_input=32, vocab_size_per_layer_input=264,
        num_kv_shared_layers=2, use_double_wide_mlp=True, final_logit_softcapping=2.0,
        layer_types=["sliding_attention"] * 2 + ["full_attention", "sliding_attention", "full_attention"],
        rope_theta=None), 38),
    # The base of the rope grows with the text.
    "llama-dynamic": ("LlamaConfig", dict(
        intermediate_size=64, max_position_embeddings=20, rope_parameters=dict(
            rope_type="dynamic", rope_theta=10000.0, factor=4.0)), 21),
    # Its feed-forward block has 64 features: 2 / 3 of 75 in whole steps.
    "lfm2": ("Lfm2Config", dict(
        num_hidden_layers=3, num_attention_heads=2, num_key_value_heads=1, intermediate_size=75, block_multiple_of=32,
        conv_L_cache=3, layer_types=["conv", "full_attention", "conv"]), 22),
    "lfm2-moe": ("Lfm2MoeConfig", dict(
        num_hidden_layers=3, num_attention_heads=2, num_key_value_heads=1, intermediate_size=64, moe_intermediate_size=32,
        num_experts=4, num_experts_per_tok=2, num_dense_layers=1, layer_types=["conv", "full_attention", "conv"]), 27),
    # Their texts are longer than the chunks of recurrences.
    "qwen3-5": ("Qwen3_5TextConfig", dict(
        num_hidden_layers=3, full_attention_interval=3, num_attention_heads=2, num_key_value_heads=1, head_dim=32,
        intermediate_size=32, linear_num_key_heads=2, linear_num_value_heads=4, linear_key_head_dim=16,
        linear_value_head_dim=16, tie_word_embeddings=True), 23),
    "granite4": ("GraniteMoeHybridConfig", dict(
        num_hidden_layers=3, num_attention_heads=2, num_key_value_heads=1, num_local_experts=0, shared_intermediate_size=32,
        embedding_multiplier=6.0, attention_multiplier=0.2, residual_multiplier=0.4, logits_scaling=3.0,
        layer_types=["linear_attention", "full_attention", "linear_attention"], mamba_n_heads=8, mamba_n_groups=2,
        mamba_d_state=16, mamba_chunk_size=32, tie_word_embeddings=True), 24),
    "granite4-moe": ("GraniteMoeHybridConfig", dict(
        num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, num_local_experts=4, num_experts_per_tok=2,
        intermediate_size=32, shared_intermediate_size=32, embedding_multiplier=6.0, attention_multiplier=0.2,
        residual_multiplier=0.4, logits_scaling=3.0, layer_types=["linear_attention", "full_attention"], mamba_n_heads=8,
        mamba_n_groups=2, mamba_d_state=16, mamba_chunk_size=32, tie_word_embeddings=True), 26),
    "qwen3-5-moe": ("Qwen3_5MoeTextConfig", dict(
        num_hidden_layers=2, full_attention_interval=2, num_attention_heads=2, num_key_value_heads=1, head_dim=32,
        moe_intermediate_size=32, shared_expert_intermediate_size=32, num_experts=4, num_experts_per_tok=2,
        linear_num_key_heads=2, linear_num_value_heads=4, linear_key_head_dim=16, linear_value_head_dim=16,
        tie_word_embeddings=False), 25),
    "glm4-moe": ("Glm4MoeConfig", dict(
        hidden_size=32, intermediate_size=64, num_attention_heads=2, num_key_value_heads=1, head_dim=32,
        attention_bias=True, use_qk_norm=True, n_routed_experts=6, num_experts_per_tok=3, n_group=3, topk_group=2,
        moe_intermediate_size=32, routed_scaling_factor=1.5, num_mtp_layers=0), 22),
    "granitemoe": ("GraniteMoeConfig", dict(
        hidden_size=32, num_attention_heads=2, num_key_value_heads=2, num_local_experts=4, num_experts_per_tok=2,
        intermediate_size=32, embedding_multiplier=6.0, attention_multiplier=0.2, residual_multiplier=0.4,
        logits_scaling=3.0), 23),
    # Of three layers that take turns in sliding.
    "gpt-oss": ("GptOssConfig", dict(
        hidden_size=32, num_attention_heads=2, num_key_value_heads=1, head_dim=32, num_hidden_layers=3,
        tie_word_embeddings=False,
        num_local_experts=4, num_experts_per_tok=2, intermediate_size=32, sliding_window=7,
        max_position_embeddings=128, rope_parameters=dict(
            rope_type="yarn", rope_theta=10000.0, factor=4.0, original_max_position_embeddings=32, beta_fast=4.0,
            beta_slow=1.0, truncate=True)), 37),
    # Experts stored in MXFP4, as published.
    "gpt-oss-mxfp4": ("GptOssConfig", dict(
        num_attention_heads=2, num_key_value_heads=1, head_dim=16, num_local_experts=4, num_experts_per_tok=2,
        intermediate_size=32, sliding_window=7, tie_word_embeddings=False, rope_parameters=dict(rope_type="default", rope_theta=10000.0)), 28),
    "deepseek-v2": ("DeepseekV2Config", dict(
        LATENT, q_lora_rank=32, topk_method="greedy", n_routed_experts=4, num_experts_per_tok=2, n_shared_experts=2,
        routed_scaling_factor=4.0), 25),
    # Groups are chosen by their best expert, and queries have no vector of their own: llama.cpp has neither in so
    # small a model.
    "deepseek-v2-groups": ("DeepseekV2Config", dict(
        LATENT, q_lora_rank=None, topk_method="group_limited_greedy", n_group=3, topk_group=2, n_routed_experts=6,
        num_experts_per_tok=3, n_shared_experts=1), 26),
    "deepseek-v3": ("DeepseekV3Config", dict(
        LATENT, q_lora_rank=32, n_group=3, topk_group=2, n_routed_experts=6, num_experts_per_tok=3, n_shared_experts=1,
        norm_topk_prob=True, routed_scaling_factor=1.5, num_mtp_layers=0, max_position_embeddings=128,
        rope_parameters=dict(rope_type="yarn", rope_theta=10000.0, factor=4.0, original_max_position_embeddings=32,
                             beta_fast=4.0, beta_slow=1.0, mscale=1.0, mscale_all_dim=1.0)), 27),
}
LOGITS_EVERY = 3  # tokens, of the last of which they are kept
LONG = {"granite4": 72, "granite4-moe": 72, "qwen3-5": 72, "qwen3-5-moe": 72}  # tokens; the others have 48


def byte_tokenizer():
    """tokenizer.json of byte-level BPE with one special token, the 256 bytes and one merge."""
    vocab, stand_in = {"<|end|>": 0}, 256
    for byte in range(256):
        printable = 33 <= byte <= 126 or 161 <= byte <= 172 or byte >= 174
        vocab[chr(byte if printable else stand_in)] = byte + 1
        stand_in += not printable
    vocab["in"] = 257
    level = dict(type="ByteLevel", add_prefix_space=False, trim_offsets=True, use_regex=True)
    special = dict(id=0, content="<|end|>", single_word=False, lstrip=False, rstrip=False, normalized=False,
                   special=True)
    return dict(version="1.0", added_tokens=[special], normalizer=None, pre_tokenizer=level, post_processor=None,
                decoder=level, model=dict(type="BPE", ignore_merges=False, vocab=vocab, merges=["i n"]))


def randomize(model, seed):
    random = torch.Generator().manual_seed(seed)
    for name, weight in model.named_parameters():
        noise = torch.randn(weight.shape, generator=random)
        if weight.dim() > 1:
            values = noise * 1.5 / weight.shape[-1] ** 0.5
        else:
            # The Gemmas up to 3 and Qwen 3.5 leave 1 out of their norms.
            offset = type(model).__name__.startswith("Gemma") and "Gemma4" not in type(model).__name__
            offset = offset or type(model).__name__.startswith("Qwen3_5") and "linear_attn" not in name
            gain = 0.2 * noise if offset else 1 + 0.2 * noise
            if "Gemma4" in type(model).__name__ and name.endswith("q_norm.weight"):
                gain = gain / weight.shape[0] ** 0.5  # Gemma 4 scales scores in no other way
            values = 0.5 * noise if name.endswith("bias") else gain
            if name.endswith("A_log"):
                values = 0.5 * noise - 2  # so that states last for some tokens
        if name.endswith("gate_up_proj_bias"):
            values = 5 * noise  # beyond the limits of gpt-oss's SwiGLU
        weight.data.copy_(values.half().float())
    for name, scalar in model.named_buffers():
        if name.endswith(("e_score_correction_bias", "expert_bias")):
            scalar.copy_((0.2 * torch.randn(scalar.shape, generator=random)).half().float())
        if name.endswith("layer_scalar"):
            scalar.fill_(0.5 + 0.25 * torch.rand(1, generator=random).item() // 0.0625 * 0.0625)


def pack_mxfp4(model):
    """Rounds the experts of gpt-oss to MXFP4, and gives what is stored in their place."""
    packed = {}
    for name, weight in model.named_parameters():
        if not name.endswith(("gate_up_proj", "down_proj")):
            continue
        groups = weight.data.transpose(1, 2).reshape(*weight.shape[:1], weight.shape[2], -1, 32)
        exponents = torch.ceil(torch.log2(groups.abs().amax(-1) / 6)).clamp(-127, 127)
        levels = torch.tensor(FP4_VALUES)
        codes = (groups / exponents.exp2()[..., None]).unsqueeze(-1).sub(levels).abs().argmin(-1).to(torch.uint8)
        packed[name + "_blocks"] = codes[..., 0::2] | codes[..., 1::2] << 4
        packed[name + "_scales"] = (exponents + 127).to(torch.uint8)
        weight.data.copy_(convert_moe_packed_tensors(packed[name + "_blocks"], packed[name + "_scales"]).float())
    return packed


def save_packed(target, packed):
    file = target / "model.safetensors"
    kept = {name: tensor for name, tensor in load_file(file).items() if name + "_blocks" not in packed}
    save_file({**kept, **packed}, file, {"format": "pt"})
    config = json.loads((target / "config.json").read_text())
    config["quantization_config"] = dict(quant_method="mxfp4")
    (target / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def main(folder, *names):
    for place, (name, (config_class, changes, *seed)) in enumerate(MODELS.items()):
        if names and name not in names:
            continue
        config = getattr(transformers, config_class)(**{**SIZES, **changes})
        config._attn_implementation = "eager"
        model = transformers.AutoModelForCausalLM.from_config(config).float().eval()
        number = seed[0] if seed else place
        randomize(model, number + 1)
        model.tie_weights()
        packed = pack_mxfp4(model) if name.endswith("mxfp4") else {}
        random = np.random.default_rng(number)
        ids = random.integers(1, 258, LONG.get(name, 48))
        with torch.no_grad():
            logits = model(torch.from_numpy(ids)[None]).logits[0].numpy()
        target = pathlib.Path(folder) / name
        model.half().save_pretrained(target)
        if packed:
            save_packed(target, packed)
        (target / "generation_config.json").unlink(missing_ok=True)
        (target / "tokenizer.json").write_text(json.dumps(byte_tokenizer(), ensure_ascii=False))
        np.save(target / "ids.npy", ids)
        np.save(target / "logits.npy", logits[LOGITS_EVERY - 1 :: LOGITS_EVERY].astype(np.float32))
        print(name, sum(p.numel() for p in model.parameters()), "weights, logits of", logits.std())


main(*sys.argv[1:])
