#!/usr/bin/env python3
"""Encoding speed of fathom beside Hugging Face tokenizers: one thread, one document a call, passes interleaved, best of each;
processor time, each pass after one that warms the caches.

Usage: tokenizer_speed.py BENCH TOKENIZER TEXT... [--passes N]      (needs `pip install tokenizers`)
  BENCH      build/release/bench/tokenizer_bench
  TOKENIZER  tokenizer.json, also gzipped
  TEXT       UTF-8 files, also gzipped; cut at line ends into documents of about 4 KiB on both sides
"""
import argparse
import gzip
import json
import os
import subprocess
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"
from tokenizers import Tokenizer, __version__  # noqa: E402

DOCUMENT = 4096


def read(path):
    raw = open(path, "rb").read()
    return gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw


def documents(raw):
    out, begin = [], 0
    while begin < len(raw):
        end = raw.find(b"\n", min(begin + DOCUMENT, len(raw)))
        end = len(raw) if end < 0 else end + 1
        out.append(raw[begin:end].decode("utf-8", "replace"))
        begin = end
    return out


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("bench")
    ap.add_argument("tokenizer")
    ap.add_argument("text", nargs="+")
    ap.add_argument("--passes", type=int, default=3)
    a = ap.parse_args()
    peer = Tokenizer.from_str(read(a.tokenizer).decode())
    corpora = [(p, len(read(p)), documents(read(p))) for p in a.text]
    ours = subprocess.Popen([a.bench, a.tokenizer, *a.text, "--serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    best = {p: [0.0, 0.0] for p in a.text}
    for _ in range(a.passes):
        ours.stdin.write("go\n")
        ours.stdin.flush()
        rows = [json.loads(ours.stdout.readline()) for _ in corpora]
        for (path, size, docs), row in zip(corpora, rows):
            for _ in range(2):
                start = time.thread_time()
                tokens = sum(len(peer.encode(d, add_special_tokens=False).ids) for d in docs)
                rate = size / 1e6 / (time.thread_time() - start)
            assert tokens == row["tokens"], (path, tokens, row["tokens"])
            best[path] = [max(best[path][0], row["encode_mb_s"]), max(best[path][1], rate)]
    ours.stdin.close()
    print(f"encode, MB/s, best of {a.passes}: fathom | tokenizers {__version__} | ratio")
    for path, (x, y) in best.items():
        print(f"{os.path.basename(path):40s} {x:8.1f} {y:8.2f} {x / y:8.1f}x")


main()
