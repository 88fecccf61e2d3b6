#!/usr/bin/env python3
"""Writes a DeepSeek-V2/V3 checkpoint (F32, F16 or BF16 weights) as a GGUF file of llama.cpp's `deepseek2` architecture.

Without --tokenizer it has no vocabulary: the file is fed token ids. llama.cpp's server needs one. The names and keys
are those that llama.cpp reads (its llama-arch.cpp and models/deepseek2.cpp): kv_b_proj is split by heads into k_b
(transposed) and v_b, experts are stacked, norms, router and its bias are float32. MTP layers are left out.

usage: to_gguf.py MODEL OUT.gguf [--f32] [--tokenizer tokenizer.json]
"""
import argparse
import json
import pathlib

import numpy as np
from gguf import ExpertGatingFuncType, GGMLQuantizationType, GGUFWriter, RopeScalingType, TokenType

import checkpoint


class Converter:
    def __init__(self, directory, out, f32, tokenizer):
        self.config, self.tensors = checkpoint.read(directory)
        self.writer = GGUFWriter(out, "deepseek2")
        self.f32 = f32
        self.tokenizer = tokenizer

    def get(self, name):
        dtype, values = self.tensors[name]
        if dtype not in ("F32", "F16", "BF16"):
            raise SystemExit(f"{name} is {dtype}: only F32, F16 and BF16 checkpoints can be converted")
        return dtype, values

    def as_f32(self, name):
        dtype, values = self.get(name)
        return checkpoint.bf16_to_f32(values) if dtype == "BF16" else values.astype(np.float32)

    def matrix(self, out_name, values):
        """values: float32, or uint16 holding BF16."""
        if self.f32:
            values = checkpoint.bf16_to_f32(values) if values.dtype == np.uint16 else values
            self.writer.add_tensor(out_name, np.ascontiguousarray(values, np.float32))
            return
        bits = values if values.dtype == np.uint16 else checkpoint.f32_to_bf16(values)
        self.writer.add_tensor(out_name, np.ascontiguousarray(bits).view(np.uint8), raw_dtype=GGMLQuantizationType.BF16)

    def weight(self, name):
        dtype, values = self.get(name)
        return values if dtype == "BF16" else values.astype(np.float32)

    def vector(self, out_name, name):
        self.writer.add_tensor(out_name, np.ascontiguousarray(self.as_f32(name)))

    def metadata(self):
        c, w = self.config, self.writer
        w.add_name("fathom-peer")
        w.add_context_length(c["max_position_embeddings"])
        w.add_embedding_length(c["hidden_size"])
        w.add_block_count(c["num_hidden_layers"])
        w.add_feed_forward_length(c["intermediate_size"])
        w.add_head_count(c["num_attention_heads"])
        w.add_head_count_kv(1)  # one latent row serves all heads
        w.add_layer_norm_rms_eps(c["rms_norm_eps"])
        w.add_vocab_size(c["vocab_size"])
        w.add_leading_dense_block_count(c["first_k_dense_replace"])
        if c.get("q_lora_rank"):
            w.add_q_lora_rank(c["q_lora_rank"])
        rank, rope = c["kv_lora_rank"], c["qk_rope_head_dim"]
        w.add_kv_lora_rank(rank)
        w.add_key_length(rank + rope)
        w.add_value_length(rank)
        w.add_key_length_mla(c["qk_nope_head_dim"] + rope)
        w.add_value_length_mla(c["v_head_dim"])
        w.add_rope_dimension_count(rope)
        w.add_rope_freq_base(c["rope_theta"])
        w.add_expert_feed_forward_length(c["moe_intermediate_size"])
        w.add_expert_count(c["n_routed_experts"])
        w.add_expert_used_count(c["num_experts_per_tok"])
        w.add_expert_shared_count(c.get("n_shared_experts") or 0)
        w.add_expert_weights_scale(c["routed_scaling_factor"])
        w.add_expert_weights_norm(bool(c["norm_topk_prob"]))
        sigmoid = c.get("scoring_func") == "sigmoid"
        w.add_expert_gating_func(ExpertGatingFuncType.SIGMOID if sigmoid else ExpertGatingFuncType.SOFTMAX)
        if c.get("n_group", 1) > 1:
            w.add_expert_group_count(c["n_group"])
            w.add_expert_group_used_count(c["topk_group"])
        scaling = c.get("rope_scaling")
        if scaling:
            w.add_rope_scaling_type(RopeScalingType.YARN)
            w.add_rope_scaling_factor(scaling["factor"])
            w.add_rope_scaling_orig_ctx_len(scaling["original_max_position_embeddings"])
            w.add_rope_scaling_yarn_beta_fast(scaling["beta_fast"])
            w.add_rope_scaling_yarn_beta_slow(scaling["beta_slow"])
            w.add_rope_scaling_yarn_log_mul(0.1 * scaling["mscale_all_dim"])  # the loader divides by 0.1 again
        if self.tokenizer:
            self.vocabulary(json.loads(pathlib.Path(self.tokenizer).read_text()))
        else:
            w.add_tokenizer_model("none")

    def vocabulary(self, tokenizer):
        size, w = self.config["vocab_size"], self.writer
        names = [f"[unused {i}]" for i in range(size)]
        types = [TokenType.UNUSED] * size
        for name, i in tokenizer["model"]["vocab"].items():
            names[i], types[i] = name, TokenType.NORMAL
        for added in tokenizer["added_tokens"]:
            names[added["id"]] = added["content"]
            types[added["id"]] = TokenType.CONTROL if added["special"] else TokenType.USER_DEFINED
        merges = tokenizer["model"]["merges"]
        w.add_tokenizer_model("gpt2")
        w.add_tokenizer_pre("deepseek-v3")
        w.add_token_list(names)
        w.add_token_types(types)
        w.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in merges])
        w.add_bos_token_id(self.config["bos_token_id"])
        w.add_eos_token_id(self.config["eos_token_id"])

    def attention(self, layer):
        c = self.config
        source, out = f"model.layers.{layer}.self_attn.", f"blk.{layer}.attn_"
        if c.get("q_lora_rank"):
            self.matrix(out + "q_a.weight", self.weight(source + "q_a_proj.weight"))
            self.vector(out + "q_a_norm.weight", source + "q_a_layernorm.weight")
            self.matrix(out + "q_b.weight", self.weight(source + "q_b_proj.weight"))
        else:
            self.matrix(out + "q.weight", self.weight(source + "q_proj.weight"))
        self.matrix(out + "kv_a_mqa.weight", self.weight(source + "kv_a_proj_with_mqa.weight"))
        self.vector(out + "kv_a_norm.weight", source + "kv_a_layernorm.weight")
        kv_b = self.weight(source + "kv_b_proj.weight")
        kv_b = kv_b.reshape(c["num_attention_heads"], c["qk_nope_head_dim"] + c["v_head_dim"], c["kv_lora_rank"])
        self.matrix(out + "k_b.weight", kv_b[:, : c["qk_nope_head_dim"]].transpose(0, 2, 1))
        self.matrix(out + "v_b.weight", kv_b[:, c["qk_nope_head_dim"] :])
        self.matrix(out + "output.weight", self.weight(source + "o_proj.weight"))

    def feed_forward(self, layer):
        c = self.config
        source, out = f"model.layers.{layer}.mlp.", f"blk.{layer}."
        if layer < c["first_k_dense_replace"]:
            for part in ("gate", "up", "down"):
                self.matrix(f"{out}ffn_{part}.weight", self.weight(f"{source}{part}_proj.weight"))
            return
        self.vector(out + "ffn_gate_inp.weight", source + "gate.weight")
        bias = source + "gate.e_score_correction_bias"
        if bias in self.tensors:
            self.vector(out + "exp_probs_b.bias", bias)
        for part in ("gate", "up", "down"):
            experts = [self.weight(f"{source}experts.{e}.{part}_proj.weight") for e in range(c["n_routed_experts"])]
            self.matrix(f"{out}ffn_{part}_exps.weight", np.stack(experts))
            if c.get("n_shared_experts"):
                shared = self.weight(f"{source}shared_experts.{part}_proj.weight")
                self.matrix(f"{out}ffn_{part}_shexp.weight", shared)

    def run(self):
        self.metadata()
        self.matrix("token_embd.weight", self.weight("model.embed_tokens.weight"))
        for layer in range(self.config["num_hidden_layers"]):
            self.vector(f"blk.{layer}.attn_norm.weight", f"model.layers.{layer}.input_layernorm.weight")
            self.attention(layer)
            self.vector(f"blk.{layer}.ffn_norm.weight", f"model.layers.{layer}.post_attention_layernorm.weight")
            self.feed_forward(layer)
        self.vector("output_norm.weight", "model.norm.weight")
        self.matrix("output.weight", self.weight("lm_head.weight"))
        self.writer.write_header_to_file()
        self.writer.write_kv_data_to_file()
        self.writer.write_tensors_to_file()
        self.writer.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("out")
    parser.add_argument("--f32", action="store_true", help="all matrices in float32 instead of bfloat16")
    parser.add_argument("--tokenizer", help="tokenizer.json whose vocabulary the file gets")
    args = parser.parse_args()
    Converter(args.model, args.out, args.f32, args.tokenizer).run()


if __name__ == "__main__":
    main()
