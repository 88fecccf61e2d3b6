#!/usr/bin/env python3
"""Runs the same model in fathom, llama.cpp and transformers, cell by cell and in turn, and prints tokens a second and
ratios.

Each engine is a process of its own that waits while another works. Every cell is measured in `--rounds` rounds; in a
round the engines follow one another, so that drift of the machine meets all of them. A figure is the median over the
rounds of the median of a round; for an engine with variants the best one counts, and is named.

usage: compare.py MODEL --fathom build/release/fathom [--gguf MODEL.gguf] [--no-torch] [--rounds 3] [--json OUT]
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
CELLS = [
    {"name": "decode, context 0", "kind": "decode", "batch": 1, "context": 0, "steps": 24},
    {"name": "decode, context 4096", "kind": "decode", "batch": 1, "context": 4096, "steps": 12},
    {"name": "decode, 8 sequences", "kind": "decode", "batch": 8, "context": 0, "steps": 12},
    {"name": "decode, 16 sequences", "kind": "decode", "batch": 16, "context": 0, "steps": 12},
    {"name": "prefill 512", "kind": "prefill", "tokens": 512, "steps": 2},
    {"name": "prefill 2048", "kind": "prefill", "tokens": 2048, "steps": 1},
]


class Worker:
    """A peer in its own process."""

    def __init__(self, script, arguments):
        command = [sys.executable, str(HERE / script), *map(str, arguments)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, job):
        print(json.dumps(job), file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.process.args[1]} ended")
        return json.loads(line)

    def measure(self, cell):
        tokens = cell["batch"] if cell["kind"] == "decode" else cell["tokens"]
        return {name: tokens / statistics.median(s) for name, s in self.ask(cell).items()}


class Fathom:
    """fathom bench, once a round and cell."""

    def __init__(self, program, model, threads, extra):
        self.command = [program, "bench", model, "--json", "--threads", str(threads), *extra]

    def measure(self, cell):
        if cell["kind"] == "decode":
            sizes = ["--no-prefill", "--batch", str(cell["batch"]), "--context", str(cell["context"])]
        else:
            sizes = ["--no-decode", "--prefill", str(cell["tokens"])]
        result = json.loads(subprocess.run(self.command + sizes, check=True, capture_output=True, text=True).stdout)
        row = result[cell["kind"]][0]
        if "skipped" in row:
            raise SystemExit(f"fathom left out {cell['name']}: {row['skipped']}")
        cell.setdefault("bounds", []).append(row["bound_tokens_per_s"])
        return {"": row["tokens_per_s"]}


def best(rounds):
    """(tokens a second, variant): the median over the rounds of the best variant."""
    medians = {name: statistics.median(r[name] for r in rounds if name in r) for r in rounds for name in r}
    name = max(medians, key=medians.get)
    return medians[name], name


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="checkpoint directory")
    parser.add_argument("--fathom", default="build/release/fathom")
    parser.add_argument("--gguf", help="the same model for llama.cpp (to_gguf.py)")
    parser.add_argument("--no-torch", action="store_true")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cells", default="", help="only cells whose name contains this")
    parser.add_argument("--fathom-args", default="", help="more options of fathom bench, e.g. '--compute bf16'")
    parser.add_argument("--json", help="write all figures here")
    args = parser.parse_args()

    engines = {"fathom": Fathom(args.fathom, args.model, args.threads, args.fathom_args.split())}
    if args.gguf:
        engines["llama.cpp"] = Worker("llama_worker.py", [args.gguf, "--threads", args.threads])
    if not args.no_torch:
        engines["transformers"] = Worker("torch_worker.py", [args.model, "--threads", args.threads])

    peers = [name for name in engines if name != "fathom"]
    print(f"{'tokens/s':<22}{'fathom':>10}{'of bound':>10}" + "".join(f"{p:>14}{'ratio':>8}" for p in peers), flush=True)
    cells = []
    for cell in (dict(c) for c in CELLS if args.cells in c["name"]):
        rounds = {name: [] for name in engines}
        for _ in range(args.rounds):
            for name, engine in engines.items():
                rounds[name].append(engine.measure(cell))
        ours, _ = best(rounds["fathom"])
        line = f"{cell['name']:<22}{ours:>10.1f}{ours / statistics.median(cell['bounds']):>9.0%} "
        notes = []
        for peer in peers:
            theirs, variant = best(rounds[peer])
            line += f"{theirs:>14.1f}{ours / theirs:>7.2f}x"
            notes.append(f"{peer}: {variant}")
        print(f"{line}   {'; '.join(notes)}", flush=True)
        cells.append({"cell": cell, "rounds": rounds})
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps({"threads": args.threads, "cells": cells}, indent=1))


if __name__ == "__main__":
    main()
