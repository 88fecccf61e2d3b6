#!/usr/bin/env python3
"""PyTorch with Hugging Face transformers on a checkpoint directory; the protocol of llama_worker.py.

Variants: the ways of running the experts that this version of transformers has.

usage: torch_worker.py MODEL --threads N
"""
import argparse
import json
import sys
import time

import numpy as np
import torch
import transformers


class Engine:
    def __init__(self, path, experts, dtype):
        options = {} if experts == "eager" else {"experts_implementation": experts}
        self.model = transformers.AutoModelForCausalLM.from_pretrained(path, dtype=dtype, **options).eval()
        self.vocab = self.model.config.vocab_size
        self.caches = {}

    def ids(self, rows, tokens):
        return torch.randint(self.vocab, (rows, tokens))

    def cache(self, batch, context):
        if (batch, context) not in self.caches:
            cache = transformers.DynamicCache()
            for at in range(0, context, 512):
                self.model(self.ids(batch, min(512, context - at)), past_key_values=cache, use_cache=True, logits_to_keep=1)
            self.caches = {(batch, context): cache}
        return self.caches[batch, context]

    def decode_steps(self, batch, context, steps):
        cache = self.cache(batch, context) if context > 0 else None
        seconds = []
        for _ in range(steps + 1):
            ids = self.ids(batch, 1)
            if context == 0:
                cache = transformers.DynamicCache()
            start = time.perf_counter()
            self.model(ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
            seconds.append(time.perf_counter() - start)
            if context > 0:
                cache.crop(-1)  # the same context again
        return seconds[1:]

    def prefill_steps(self, tokens, steps):
        seconds = []
        for _ in range(steps + 1):
            ids = self.ids(1, tokens)
            start = time.perf_counter()
            self.model(ids, use_cache=True, logits_to_keep=1)
            seconds.append(time.perf_counter() - start)
        return seconds[1:]


@torch.inference_mode()
def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--experts", default="grouped_mm,batched_mm,eager")
    parser.add_argument("--dtype", default="bfloat16")
    args = parser.parse_args()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(args.threads)
    torch.manual_seed(1)
    engines = {}
    for experts in args.experts.split(","):
        try:
            engines[f"{experts} experts"] = Engine(args.model, experts, getattr(torch, args.dtype))
        except (TypeError, ValueError) as error:
            print(f"transformers has no {experts} experts: {error}", file=sys.stderr)
    for line in sys.stdin:
        job = json.loads(line)
        answer = {}
        if job["kind"] == "logits":
            engine = next(iter(engines.values()))
            np.save(job["out"], engine.model(torch.tensor([job["ids"]])).logits[0].float().numpy())
        else:
            for name, engine in engines.items():
                try:
                    if job["kind"] == "decode":
                        answer[name] = engine.decode_steps(job["batch"], job["context"], job["steps"])
                    elif not name.startswith("batched_mm"):  # it copies the experts of each token: gigabytes, half a minute
                        answer[name] = engine.prefill_steps(job["tokens"], job["steps"])
                except RuntimeError as error:
                    print(f"{name}: {error}", file=sys.stderr)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
