#!/usr/bin/env python3
"""Training steps of one variant of PyTorch with Hugging Face's modelling code, steered by lines of JSON on stdin.

First answer, when the model is built and warm: {"warm_up_seconds": S, "parameters": N, "torch": V, "transformers": V}.
Then {"seconds": S, "steps": N} runs steps until S seconds are over, at least N of them, and gives {"steps": [seconds
of each], "peak": bytes, "peak_ever": bytes, "loss": L}. "peak" is the largest resident memory since the warm-up,
"peak_ever" that of the whole process (what building and compiling took included).

A step: random tokens, forward, cross-entropy, backward, AdamW (fused); the norm of the gradient is not computed.

usage: train_worker.py CONFIG.json --variant NAME --batch B --length T --threads N
"""
import argparse
import json
import os
import pathlib
import re
import sys
import time

import torch
import transformers

# Weights, whether products run in BF16 by autocast, whether autocast reaches the experts (transformers hands the
# grouped product weights as they are stored, and autocast does not know that product), and torch.compile.
VARIANTS = {
    "bf16": {"dtype": torch.bfloat16},
    "bf16 compiled": {"dtype": torch.bfloat16, "compile": True},
    "autocast": {"autocast": True},
    "autocast compiled": {"autocast": True, "compile": True},
    "autocast, bf16 experts": {"autocast": True, "cast_experts": True},
    "autocast, bf16 experts, compiled": {"autocast": True, "cast_experts": True, "compile": True},
}


class ToBf16(torch.nn.Module):
    def forward(self, weight):
        return weight.to(torch.bfloat16)


def peak_resident():
    status = pathlib.Path("/proc/self/status").read_text()
    return int(re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)[1]) * 1024


class Trainer:
    def __init__(self, args):
        variant = VARIANTS[args.variant]
        config = transformers.AutoConfig.from_pretrained(args.config)
        self.model = transformers.AutoModelForCausalLM.from_config(
            config, dtype=variant.get("dtype", torch.float32), experts_implementation=args.experts).train()
        if variant.get("cast_experts"):
            experts = [m for name, m in self.model.named_modules() if name.endswith(".mlp.experts")]
            for module in experts:
                for name in [n for n, _ in module.named_parameters(recurse=False)]:
                    torch.nn.utils.parametrize.register_parametrization(module, name, ToBf16(), unsafe=True)
        self.forward = torch.compile(self.model) if variant.get("compile") else self.model
        self.autocast = variant.get("autocast", False)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
        self.vocab, self.shape = config.vocab_size, (args.batch, args.length)

    def parameters(self):
        return sum(p.numel() for p in self.model.parameters())

    def step(self):
        ids = torch.randint(self.vocab, self.shape)
        start = time.perf_counter()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.autocast):
            loss = self.forward(input_ids=ids, labels=ids, use_cache=False).loss
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return time.perf_counter() - start, float(loss.detach())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="a config.json")
    parser.add_argument("--variant", required=True, choices=VARIANTS)
    parser.add_argument("--batch", type=int, required=True, help="sequences of a step")
    parser.add_argument("--length", type=int, required=True, help="tokens of a sequence")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--experts", default="grouped_mm", help="experts_implementation of transformers")
    args = parser.parse_args()
    answers = os.fdopen(os.dup(1), "w")  # whatever else is printed goes to stderr
    os.dup2(2, 1)
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(args.threads)
    torch.manual_seed(1)

    start = time.perf_counter()
    trainer = Trainer(args)
    for _ in range(2):
        trainer.step()
    peak_ever = peak_resident()
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # VmHWM starts again from what is resident now
    print(json.dumps({"warm_up_seconds": time.perf_counter() - start, "parameters": trainer.parameters(),
                      "torch": torch.__version__, "transformers": transformers.__version__}), file=answers, flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        seconds, loss = [], None
        while len(seconds) < job["steps"] or sum(seconds) < job["seconds"]:
            taken, loss = trainer.step()
            seconds.append(taken)
        peak = peak_resident()
        peak_ever = max(peak_ever, peak)
        answer = {"steps": seconds, "peak": peak, "peak_ever": peak_ever, "loss": loss}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
