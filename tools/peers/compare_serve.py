#!/usr/bin/env python3
"""Serves the same model by fathom, llama.cpp's server and vLLM, in turn, and prints output tokens a second and the time
to the first token at several numbers of clients, over HTTP, streaming, greedy, end of text ignored.

All servers run; one works, the others wait. The load is that of `fathom bench serve`: a client sends its next request when
the one before is answered; prompts are random ids, different for each request and the same for all engines, so no prefix
is shared. In a round the engines follow one another; a figure is the median over rounds. An engine with variants
(--fathom-variant "NAME=OPTIONS") is several engines, of which the best counts for each cell.

usage: compare_serve.py MODEL --gguf MODEL.gguf --llama-server PATH [--vllm PATH] [--clients 1,8,32] [--rounds 3]
"""
import argparse
import contextlib
import json
import os
import pathlib
import re
import shlex
import signal
import socket
import statistics
import subprocess
import tempfile
import time
import urllib.request

NAME = "peer"  # that the model is served under


def free_port():
    with contextlib.closing(socket.socket()) as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Engine:
    """A server process. `command` holds {port}."""

    def __init__(self, name, command, environment=None):
        self.name, self.port = name, free_port()
        self.log = tempfile.NamedTemporaryFile(mode="w+", prefix="serve-", suffix=".log")
        self.process = subprocess.Popen([a.replace("{port}", str(self.port)) for a in command], stdin=subprocess.DEVNULL,
                                        stdout=self.log, stderr=self.log, env={**os.environ, **(environment or {})},
                                        start_new_session=True)

    def wait_ready(self, seconds=600):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            with contextlib.suppress(Exception):
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=5):
                    return
            time.sleep(0.5)
        self.log.seek(0)
        raise SystemExit(f"{self.name} did not start:\n{self.log.read()[-4000:]}")

    def stop(self):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGTERM)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def resident_bytes(self):
        """Of the process and its children."""
        total = 0
        for status in pathlib.Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                fields = status.read_text().rpartition(")")[2].split()
                if int(fields[3]) == self.process.pid:  # its session
                    total += int(fields[21]) * os.sysconf("SC_PAGE_SIZE")
        return total


def load(engine, args, clients, requests, output, seed):
    """fathom bench serve on the engine: its JSON."""
    command = [args.load_generator or args.fathom, "bench", "serve", f"http://127.0.0.1:{engine.port}", "--model", NAME,
               "--concurrency", clients, "--num-prompts", requests, "--input-len", args.prompt, "--output-len", output,
               "--prompt", "ids", "--vocab-size", args.vocabulary, "--seed", seed, "--json"]
    result = json.loads(subprocess.run([str(c) for c in command], check=True, capture_output=True, text=True).stdout)
    if result["failed"] or result["total_output_tokens"] != requests * output:
        raise SystemExit(f"{engine.name} did not answer {requests} times {output} tokens: {result}")
    return result


def measure(engine, args, clients, seed):
    result = load(engine, args, clients, max(clients * args.waves, args.least), args.output, seed)
    return {"tokens_per_s": result["output_throughput"], "ttft_p50": result["median_ttft_ms"],
            "ttft_p95": result["p95_ttft_ms"], "itl_p50": result["median_itl_ms"], "itl_p95": result["p95_itl_ms"]}


def engines_of(args):
    threads, length = str(args.threads), args.prompt + args.output
    most = max(args.clients)
    context = length + 320  # fathom bench serve tries a server out with a prompt of its own first
    for variant in args.fathom_variant or [""]:
        name, _, options = variant.partition("=")
        yield (f"fathom{' ' + name if name else ''}",
               [args.fathom, "serve", args.model, "--port", "{port}", "--threads", threads, "--served-model-name", NAME,
                *shlex.split(args.fathom_args), *shlex.split(options)], {})
    if args.llama_server:
        for flash in ("on", "off"):
            yield (f"llama.cpp, flash attention {flash}",
                   [args.llama_server, "-m", args.gguf, "--port", "{port}", "--alias", NAME, "-t", threads, "-tb", threads,
                    "-np", str(most), "-c", str(most * context), "-fa", flash, "--no-webui", "--cache-ram", "0"], {})
    if args.vllm:
        command = [args.vllm, "serve", args.vllm_model or args.model, "--port", "{port}", "--host", "127.0.0.1",
                   "--served-model-name", NAME, "--dtype", "bfloat16", "--max-model-len", str(context), "--max-num-seqs",
                   str(most), "--disable-uvicorn-access-log"]
        environment = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": f"0-{args.threads - 1}",
                       "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
        if args.vllm_preload:
            environment["LD_PRELOAD"] = args.vllm_preload
        for name, more in (("latent cache", {}), ("full cache", {"VLLM_MLA_DISABLE": "1"})):
            yield f"vLLM, {name}", command, {**environment, **more}


def show(cells, names):
    for cell in cells:
        print(f"\n{cell['clients']} clients{'':<22}{'tokens/s':>10}{'TTFT p50':>10}{'p95':>9}{'ITL p50':>10}{'p95':>9}  (ms)")
        for name in names:
            rounds = cell["engines"].get(name)
            if rounds:
                m = {key: statistics.median(r[key] for r in rounds) for key in rounds[0]}
                print(f"  {name:<30}{m['tokens_per_s']:>10.1f}{m['ttft_p50']:>10.0f}{m['ttft_p95']:>9.0f}"
                      f"{m['itl_p50']:>10.1f}{m['itl_p95']:>9.1f}   rounds "
                      + " ".join(f"{r['tokens_per_s']:.0f}" for r in rounds))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="checkpoint directory with a tokenizer")
    parser.add_argument("--fathom", default="build/release/fathom")
    parser.add_argument("--only", default="", help="only engines whose name this regular expression finds")
    parser.add_argument("--load-generator", help="the fathom that sends the requests, if not --fathom")
    parser.add_argument("--fathom-args", default="", help="more options of fathom serve")
    parser.add_argument("--fathom-variant", action="append", help="NAME=OPTIONS; may be given several times")
    parser.add_argument("--gguf", help="the same model for llama.cpp (to_gguf.py --tokenizer)")
    parser.add_argument("--llama-server", help="llama.cpp's server")
    parser.add_argument("--vllm", help="the vllm program of a virtual environment with vLLM's CPU build")
    parser.add_argument("--vllm-model", help="the model's directory for vLLM, if not MODEL")
    parser.add_argument("--vllm-preload", help="LD_PRELOAD of vLLM: its documentation asks for tcmalloc and libiomp5")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--clients", type=lambda s: [int(c) for c in s.split(",")], default=[1, 8, 32])
    parser.add_argument("--prompt", type=int, default=128, help="tokens")
    parser.add_argument("--output", type=int, default=128, help="tokens")
    parser.add_argument("--waves", type=int, default=2, help="requests of each client in a round")
    parser.add_argument("--least", type=int, default=4, help="requests of a cell at least")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", help="write all figures here")
    args = parser.parse_args()
    args.vocabulary = json.loads((pathlib.Path(args.model) / "config.json").read_text())["vocab_size"] * 63 // 64

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: no server is left behind
    engines = []
    try:
        for name, command, environment in engines_of(args):
            if not re.search(args.only, name):
                continue
            engines.append(Engine(name, command, environment))
            engines[-1].wait_ready()
            print(f"{name}: {' '.join(command)}", flush=True)
        for engine in engines:  # warm: first pages, first compilations
            for clients in args.clients:
                load(engine, args, clients, clients, 16, 9)
        cells = [{"clients": clients, "engines": {}} for clients in args.clients]
        for turn in range(args.rounds):
            for cell in cells:
                for engine in engines:
                    result = measure(engine, args, cell["clients"], 1000 * turn + cell["clients"])
                    cell["engines"].setdefault(engine.name, []).append(result)
            print(f"round {turn + 1} of {args.rounds}, load {os.getloadavg()[0]:.1f}", flush=True)
        show(cells, [e.name for e in engines])
        print()
        for engine in engines:
            print(f"{engine.name}: {engine.resident_bytes() / 1e9:.2f} GB resident")
        if args.json:
            pathlib.Path(args.json).write_text(json.dumps({"arguments": vars(args), "cells": cells}, indent=1))
    finally:
        for engine in engines:
            engine.stop()


if __name__ == "__main__":
    main()
