#!/usr/bin/env python3
"""Writes tests/golden/tokenizer/trained.json: small corpora and what the trainer of Hugging Face tokenizers makes of them.

Usage: make_trainer_vectors.py OUT_FILE    (needs `pip install tokenizers`)

A list of {"name", "documents", "min_frequency", "vocab": [names by id], "merges": ["a b", ...]}. The first ids are bos, eos, pad.
"""
import json
import random
import sys

from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

SPECIAL = ["<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜▁pad▁｜>"]
V3 = [
    r"\p{N}{1,3}",
    "[一-龥\u3040-ゟ゠-ヿ]+",
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+",
]
SCRIPTS = ["etaoinshrdlu", "abcdefghijklmnopqrstuvwxyz", "的一是不了人我在有他这中大来上国", "かなカタナひら", "аеионтсрвл", "אבגדהו", "กขคงจฉ", "हिन्दी",
           "0123456789", "éüñß", "😀🎉👩"]
JOINTS = [" ", " ", " ", " ", ", ", ". ", ".\n", "\n", "\n\n", "\r\n", "  ", "\t", "-", "'", "(", ")\n", "。", "，", "\u3000", "\u200b", "", "_"]


def prose(rng, documents, words):
    lexicon = []
    for _ in range(words):
        script = SCRIPTS[min(int(rng.expovariate(0.35)), len(SCRIPTS) - 1)]
        lexicon.append("".join(rng.choice(script) for _ in range(1 + min(int(rng.expovariate(0.3)), 12))))
    weights = [1 / (i + 1) for i in range(words)]
    return ["".join(w + rng.choice(JOINTS) for w in rng.choices(lexicon, weights, k=rng.randint(1, 60))) for _ in range(documents)]


def runs(rng, documents):
    # few letters and long repeats: occurrences overlap, and merges break what they have just made
    def piece():
        unit = "".join(rng.choice("ab") for _ in range(rng.randint(1, 3)))
        return unit * rng.randint(1, 12) + "".join(rng.choice("abc") for _ in range(rng.randint(0, 8)))
    return [" ".join(piece() for _ in range(rng.randint(1, 6))) for _ in range(documents)]


def train(documents, size, min_frequency):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(e), "isolated") for e in V3] + [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.train_from_iterator(documents, trainers.BpeTrainer(
        vocab_size=size, min_frequency=min_frequency, show_progress=False, special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    model = json.loads(tokenizer.to_str())["model"]
    vocab = sorted(model["vocab"], key=model["vocab"].get)
    return vocab, [" ".join(m) if isinstance(m, list) else m for m in model["merges"]]


def main():
    rng = random.Random(20250)
    out = []
    for name, documents, size, min_frequency in [
        ("prose", prose(rng, 60, 400), 259 + 350, 2),
        ("as far as it goes", prose(rng, 6, 60), 259 + 2000, 2),
        ("runs", runs(rng, 120), 259 + 120, 2),
        ("runs, every pair", runs(rng, 25), 259 + 4000, 1),
        ("rare pairs left", prose(rng, 20, 100), 259 + 2000, 5),
    ]:
        vocab, merges = train(documents, size, min_frequency)
        out.append({"name": name, "documents": documents, "vocab_size": size, "min_frequency": min_frequency, "vocab": vocab, "merges": merges})
        print(name, len(vocab), len(merges))
    with open(sys.argv[1], "w", encoding="utf-8") as f:
        f.write("[\n" + ",\n".join(json.dumps(c, ensure_ascii=False) for c in out) + "\n]\n")


main()
