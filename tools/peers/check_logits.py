#!/usr/bin/env python3
"""Whether the engines compute the same model: logits of some tokens in float32, all positions, relative L2 distance.

Random weights route by near ties, so engines can only be compared in float32: give a GGUF written with --f32.

usage: check_logits.py MODEL --gguf MODEL-f32.gguf --fathom build/release/fathom [--torch] [--tokens 103]
"""
import argparse
import os
import pathlib
import random
import subprocess
import tempfile

import numpy as np

import checkpoint
from compare import Worker


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--gguf", required=True)
    parser.add_argument("--fathom", default="build/release/fathom")
    parser.add_argument("--torch", action="store_true", help="transformers in float32 too")
    parser.add_argument("--tokens", type=int, default=103)
    args = parser.parse_args()
    config, _ = checkpoint.read(args.model)
    random.seed(7)
    ids = [random.randrange(config["vocab_size"]) for _ in range(args.tokens)]
    threads = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        trace = pathlib.Path(folder) / "trace.safetensors"
        command = [args.fathom, "trace", args.model, "--compute", "f32", "--ids", ",".join(map(str, ids)), "--out", trace]
        subprocess.run(command, check=True)
        ours = checkpoint.read_file(trace)["logits"][1]
        peers = {"llama.cpp": Worker("llama_worker.py", [args.gguf, "--threads", threads, "--f32-cache", "--ubatch", 2048])}
        if args.torch:
            peers["transformers"] = Worker(
                "torch_worker.py", [args.model, "--threads", threads, "--experts", "eager", "--dtype", "float32"])
        worst = 0.0
        for name, peer in peers.items():
            out = pathlib.Path(folder) / "logits.npy"
            peer.ask({"kind": "logits", "ids": ids, "out": str(out)})
            theirs = np.load(out)
            rows = np.linalg.norm(ours - theirs, axis=1) / np.linalg.norm(theirs, axis=1)
            same = np.mean(ours.argmax(1) == theirs.argmax(1))
            print(f"fathom and {name}: relative L2 {np.linalg.norm(ours - theirs) / np.linalg.norm(theirs):.2e}, "
                  f"worst position {rows.max():.2e}, same first choice {same:.1%}")
            worst = max(worst, float(rows.max()))
    raise SystemExit(0 if worst < 1e-3 else 1)


if __name__ == "__main__":
    main()
