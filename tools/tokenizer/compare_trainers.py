#!/usr/bin/env python3
"""`fathom tokenizer train` beside the trainer of Hugging Face tokenizers on the same documents: the same merges? how long? And whether
Hugging Face tokenizers, with fathom's file, encodes texts as fathom does.

Usage: compare_trainers.py FATHOM TEXT... [--bytes N] [--vocab-size N] [--passes N] [--encode TEXT...]    (needs `pip install tokenizers`)
  FATHOM    build/release/fathom
  TEXT      UTF-8 files, also gzipped; equal shares of the first N bytes, cut at line ends into documents of about 4 KiB
  --encode  files to encode (default: the corpus)

Times: fathom's is the whole program, reading and writing files included; the peer's its call of train_from_iterator, documents in
memory. Passes are interleaved; of each the best, with 1 and with 2 threads.
"""
import argparse
import gzip
import json
import os
import subprocess
import sys
import tempfile
import time

DOCUMENT = 4096
SPECIAL = ["<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜▁pad▁｜>"]
LAST = 15  # tokens that fathom adds behind the vocabulary


def read(path):
    raw = open(path, "rb").read()
    raw = gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
    return raw.decode("utf-8", "replace")


def documents(text):
    out, begin = [], 0
    while begin < len(text):
        end = text.find("\n", min(begin + DOCUMENT, len(text)))
        end = len(text) if end < 0 else end + 1
        out.append(text[begin:end])
        begin = end
    return out


def rows(path):
    return [json.loads(line)["text"] for line in open(path, encoding="utf-8")]


def peer(corpus, ours, size, out):
    """In a process of its own: trains with the pre-tokenizer of fathom's file."""
    from tokenizers import Tokenizer, pre_tokenizers, trainers
    base = json.load(open(ours, encoding="utf-8"))
    base["model"].update(vocab={}, merges=[])
    base["added_tokens"] = []
    tokenizer = Tokenizer.from_str(json.dumps(base))
    texts = rows(corpus)
    trainer = trainers.BpeTrainer(vocab_size=size, min_frequency=2, show_progress=False, special_tokens=SPECIAL,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    start = time.perf_counter()
    tokenizer.train_from_iterator(texts, trainer)
    print(time.perf_counter() - start)
    tokenizer.save(out)


def model(path):
    m = json.load(open(path, encoding="utf-8"))["model"]
    return m["vocab"], [" ".join(p) if isinstance(p, list) else p for p in m["merges"]]


def main():
    if sys.argv[1:2] == ["--peer"]:
        return peer(sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[5])
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("fathom")
    ap.add_argument("text", nargs="+")
    ap.add_argument("--bytes", type=int, default=10_000_000)
    ap.add_argument("--vocab-size", type=int, default=8192)
    ap.add_argument("--passes", type=int, default=3)
    ap.add_argument("--encode", nargs="*", default=[])
    a = ap.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        corpus, ours, theirs = (os.path.join(scratch, n) for n in ("corpus.jsonl", "ours.json", "theirs.json"))
        share, size = a.bytes // len(a.text), 0
        with open(corpus, "w", encoding="utf-8") as f:
            for path in a.text:
                text = read(path).encode()[:share].decode("utf-8", "ignore")
                size += len(text.encode())
                for d in documents(text):
                    f.write(json.dumps({"text": d}, ensure_ascii=False) + "\n")
        best = {}
        for _ in range(a.passes):
            for threads in ("1", "2"):
                start = time.perf_counter()
                subprocess.run([a.fathom, "tokenizer", "train", corpus, "--vocab-size", str(a.vocab_size + LAST), "--out", ours, "--force",
                                "--threads", threads], check=True, stdout=subprocess.DEVNULL)
                mine = time.perf_counter() - start
                env = dict(os.environ, RAYON_NUM_THREADS=threads, TOKENIZERS_PARALLELISM="true")
                said = subprocess.run([sys.executable, __file__, "--peer", corpus, ours, str(a.vocab_size), theirs], check=True, env=env,
                                      stdout=subprocess.PIPE, text=True).stdout
                x, y = best.get(threads, (1e9, 1e9))
                best[threads] = (min(x, mine), min(y, float(said)))
                if model(ours) != model(theirs):
                    sys.exit("the vocabularies or merges differ")
        print(f"{size / 1e6:.1f} MB, {a.vocab_size} ids: the same vocabulary and merges")
        for threads, (x, y) in best.items():
            print(f"  {threads} thread(s): fathom {x:.2f} s, tokenizers {y:.2f} s, ratio {y / x:.1f}x")

        from tokenizers import Tokenizer
        loaded = Tokenizer.from_file(ours)
        for path in a.encode or [corpus]:
            texts = rows(path) if path == corpus else documents(read(path))
            lines = "".join(json.dumps({"text": t}) + "\n" for t in texts)
            said = subprocess.run([a.fathom, "tokenizer", "encode", ours, "--jsonl"], input=lines, check=True, stdout=subprocess.PIPE, text=True).stdout
            ids = 0
            for text, line in zip(texts, said.splitlines(), strict=True):
                mine, peers = json.loads(line)["ids"], loaded.encode(text).ids
                if mine != peers:
                    sys.exit(f"{path}: encoded differently: {text[:80]!r}")
                if loaded.decode(peers, skip_special_tokens=False) != text:
                    sys.exit(f"{path}: does not decode to itself: {text[:80]!r}")
                ids += len(mine)
            print(f"  {os.path.basename(path)}: {len(texts)} texts, {ids} ids, the same")


main()
