#!/usr/bin/env python3
"""llama.cpp on a GGUF file, steered by lines of JSON on stdin, one answer a line on stdout.

{"kind": "decode", "batch": B, "context": C, "steps": N} or {"kind": "prefill", "tokens": T, "steps": N} gives
{"variant name": [seconds of each step]}: flash attention on and off. {"kind": "logits", "ids": [...], "out": FILE}
writes the logits of all positions as float32. Runs in a process of its own, so that its threads never share the cores
with another engine's.

usage: llama_worker.py MODEL.gguf --threads N [--positions P]
"""
import argparse
import json
import random
import sys
import time

import llama_cpp
import numpy as np


class Context:
    """One llama.cpp context; caches filled once stay filled."""

    def __init__(self, model, args, flash, sequences, positions):
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = positions * sequences
        params.n_seq_max = sequences
        params.n_batch = 2048
        params.n_ubatch = args.ubatch
        params.n_threads = params.n_threads_batch = args.threads
        params.flash_attn_type = 1 if flash else 0
        if args.f32_cache:
            params.type_k = params.type_v = 0  # GGML_TYPE_F32
        params.no_perf = True
        self.ctx = llama_cpp.llama_init_from_model(model, params)
        if not self.ctx:
            raise SystemExit("llama.cpp made no context")
        self.memory = llama_cpp.llama_get_memory(self.ctx)
        self.vocab = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
        self.batch = llama_cpp.llama_batch_init(2048, 0, 1)
        self.filled = 0

    def decode(self, rows):
        """rows: (token, position, sequence, wants logits). Returns seconds."""
        b = self.batch
        b.n_tokens = len(rows)
        for i, (token, position, sequence, logits) in enumerate(rows):
            b.token[i], b.pos[i], b.n_seq_id[i], b.logits[i] = token, position, 1, logits
            b.seq_id[i][0] = sequence
        start = time.perf_counter()
        if llama_cpp.llama_decode(self.ctx, b) != 0:
            raise SystemExit("llama_decode failed")
        llama_cpp.llama_synchronize(self.ctx)
        return time.perf_counter() - start

    def token(self):
        return random.randrange(self.vocab)

    def clear(self):
        llama_cpp.llama_memory_clear(self.memory, True)
        self.filled = 0

    def fill(self, sequences, context):
        if self.filled == context:
            return
        self.clear()
        for s in range(sequences):
            for at in range(0, context, 2048):
                self.decode([(self.token(), p, s, False) for p in range(at, min(context, at + 2048))])
        self.filled = context

    def decode_steps(self, batch, context, steps):
        self.fill(batch, context)
        seconds = []
        for _ in range(steps + 1):
            seconds.append(self.decode([(self.token(), context, s, True) for s in range(batch)]))
            for s in range(batch):  # the same context again
                llama_cpp.llama_memory_seq_rm(self.memory, s, context, -1)
        return seconds[1:]

    def prefill_steps(self, tokens, steps):
        seconds = []
        for _ in range(steps + 1):
            self.clear()
            seconds.append(self.decode([(self.token(), p, 0, p == tokens - 1) for p in range(tokens)]))
        self.clear()
        return seconds[1:]

    def all_logits(self, ids):
        self.clear()
        self.decode([(token, p, 0, True) for p, token in enumerate(ids)])
        rows = [np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(self.ctx, i), (self.vocab,)).copy() for i in range(len(ids))]
        self.clear()
        return np.stack(rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--positions", type=int, default=4352, help="of each sequence")
    parser.add_argument("--ubatch", type=int, default=512)
    parser.add_argument("--f32-cache", action="store_true")
    args = parser.parse_args()
    random.seed(1)
    silent = llama_cpp.llama_log_callback(lambda level, text, data: None)  # must outlive the library's use of it
    llama_cpp.llama_log_set(silent, None)
    llama_cpp.llama_backend_init()
    model = llama_cpp.llama_model_load_from_file(args.model.encode(), llama_cpp.llama_model_default_params())
    if not model:
        raise SystemExit(f"llama.cpp cannot load {args.model}")
    contexts = {}

    def context(flash, sequences):
        if (flash, sequences) not in contexts:
            contexts[flash, sequences] = Context(model, args, flash, sequences, args.positions)
        return contexts[flash, sequences]

    for line in sys.stdin:
        job = json.loads(line)
        answer = {}
        if job["kind"] == "logits":
            np.save(job["out"], context(False, 1).all_logits(job["ids"]))
        else:
            for flash in (True, False):
                name = f"flash attention {'on' if flash else 'off'}"
                if job["kind"] == "decode":
                    answer[name] = context(flash, job["batch"]).decode_steps(job["batch"], job["context"], job["steps"])
                else:
                    answer[name] = context(flash, 1).prefill_steps(job["tokens"], job["steps"])
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
