#!/usr/bin/env python3
"""Writes tests/golden/tokenizer/: vectors of the shipped model's tokenizer and of small tokenizers that use every setting that is built,
made with Hugging Face tokenizers, and chats rendered by Jinja2 from the published templates.

Usage: make_tokenizer_vectors.py MODEL_DIR TEMPLATE_DIR OUT_DIR    (needs `pip install tokenizers jinja2`)
  MODEL_DIR     configs/runs/smoke-tokenizer
  TEMPLATE_DIR  a folder with deepseek-v3.tokenizer_config.json, deepseek-r1.tokenizer_config.json, deepseek-v3.1.chat_template.jinja

  story-encode.jsonl  {"text", "ids"}                     special tokens parsed, no bos
  story-decode.jsonl  {"ids", "text", "plain"}            random ids; "plain" without special tokens
  base.json           a small tokenizer.json
  variants.jsonl      {"name", "patch", "rows": [{"text", "ids", "text_of_ids"}]}: base.json with a patch laid over it (RFC 7386)
  chat.jsonl          {"template", "messages", "thinking", "add_generation_prompt", "rendered" or "error"}
"""
import copy
import json
import pathlib
import random
import sys

from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

SENTENCES = [
    "The old king called his three sons and said, \"Who wants to go?\"", "Once upon a time,  there were 3 bears; 1234567 bees...",
    "It's I'll we've don't HE'S x'ſ", "  leading\tand trailing  \n\n", "\r\n\r\n  a\n b\n\n\n", "if (x != 3) { return y[0]; } // done",
    "中文字符测试，的了是。「引号」・ーカタカナひらがな゛", "한국어 시험 русский עברית العربية हिन्दी ไทยภาษา", "é ñ ü e\u0301 \u0301x \u200b\u200d\ufeff",
    "😀🎉👩‍👩‍👧🇩🇪", "\x00\x01a\x7f\x85b\u2028c\u180ed\u00a0e\u3000f", "①½Ⅷ٣०９ 12½3", "𝒜𝔘𐍈 ∀∂∈ℝ≤", "\U0001e5d0\u1c89 \U0001fae8 \u0897x",
    "<｜begin▁of▁sentence｜>hi<｜end▁of▁sentence｜> <｜User｜>you<｜Assistant｜><｜User", "http://example.com/a-b_c?d=e&f=g#h", "", " ", "a", "\n",
    "[sep] x[sep]y [s éx[se  [word] word[word]s [left]  [both]  z", "<tag><tag>", "aaaaaaaaaaaaaaaaaaaaaaaa", "    " * 9, "\n" * 20, "9" * 20,
]
PIECES = ["abc", "XYZ ", "0123456789", " \t", "\n\r", ".,;:!?-_()[]{}<>/\\|\"'`~@#$%^&*+=", "éüñ", "中文的了是", "ひカ゛・", "한국", "ελ", "рус", "हिन्दी्", "ไท", "😀‍🇩",
          "\u0301\u200b\u00a0\u3000", "①½٣०", "\x00\x7f\x85\u2028", "[sep]", "[word]", "[left]", "[both]"]
PUBLISHED_V2 = [  # the kind of sequence that DeepSeek-V2 has
    {"type": "Split", "pattern": {"Regex": "[\r\n]"}, "behavior": "Isolated", "invert": False},
    {"type": "Split", "pattern": {"Regex": "\\s?\\p{L}+"}, "behavior": "Isolated", "invert": False},
    {"type": "Split", "pattern": {"Regex": "\\s?\\p{P}+"}, "behavior": "Isolated", "invert": False},
    {"type": "Split", "pattern": {"Regex": "\\s+$"}, "behavior": "Isolated", "invert": False},
    {"type": "Split", "pattern": {"Regex": "[一-龥ࠀ-一가-퟿]+"}, "behavior": "Isolated", "invert": False},
    {"type": "Digits", "individual_digits": True},
    {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}]


def synthetic(rng, n):
    for _ in range(n):
        yield "".join("".join(rng.choice(a) if rng.random() < 0.9 else a for _ in range(rng.randrange(1, 7)))
                      for a in (rng.choice(PIECES) for _ in range(rng.randrange(1, 9))))


def write(path, rows):
    path.write_text("".join(json.dumps(r, ensure_ascii=True) + "\n" for r in rows))


def patched(base, patch):  # RFC 7386
    if not isinstance(patch, dict):
        return patch
    out = dict(base) if isinstance(base, dict) else {}
    for key, value in patch.items():
        if value is None:
            out.pop(key, None)
        else:
            out[key] = patched(out.get(key), value)
    return out


def story(model, out, rng):
    tok = Tokenizer.from_file(str(model / "tokenizer.json"))
    texts = SENTENCES + list(synthetic(rng, 300))
    held = [json.loads(line)["text"] for line in open(model / "heldout.jsonl")]
    texts += [t[i:i + 300] for t, i in ((rng.choice(held), rng.randrange(500)) for _ in range(60))]
    write(out / "story-encode.jsonl", [{"text": t, "ids": tok.encode(t, add_special_tokens=False).ids} for t in texts])
    rows = []
    for _ in range(200):
        ids = [rng.randrange(tok.get_vocab_size()) if rng.random() < 0.5 else rng.randrange(260) for _ in range(rng.randrange(1, 16))]
        rows.append({"ids": ids, "text": tok.decode(ids, skip_special_tokens=False), "plain": tok.decode(ids, skip_special_tokens=True)})
    write(out / "story-decode.jsonl", rows)


def variants(out, rng):
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tok.decoder = decoders.ByteLevel()
    tok.train_from_iterator([s for s in SENTENCES for _ in range(3)] + ["the bears and the bees are there"] * 5, trainers.BpeTrainer(
        vocab_size=420, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    base = json.loads(tok.to_str())
    (out / "base.json").write_text(json.dumps(base, ensure_ascii=True) + "\n")

    def split(pattern, behavior, invert=False):
        return {"type": "Split", "pattern": pattern, "behavior": behavior, "invert": invert}

    def sequence(*steps, prefix=False, regex=False):
        last = {"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": True, "use_regex": regex}
        return {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [*steps, last]}}

    def added(content, i, **kw):
        return {"id": len(base["model"]["vocab"]) + i, "content": content, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True, **kw}

    merges = [list(m) if not isinstance(m, str) else m.split(" ") for m in base["model"]["merges"]]
    vocabulary = base["model"]["vocab"]
    shuffled = merges[:]
    rng.shuffle(shuffled)
    patches = {
        "as it is": {},
        "merges as strings": {"model": {"merges": [" ".join(m) for m in merges]}},
        "merges out of order": {"model": {"merges": shuffled}},
        "merges twice": {"model": {"merges": merges + merges[:5]}},
        "two merges to one token": {"model": {"merges": merges + [[t[:i], t[i:]] for t in sorted(vocabulary) for i in range(1, len(t)) if t[:i] in vocabulary and t[i:] in vocabulary]}},
        "ignore_merges": {"model": {"ignore_merges": True, "merges": merges[:20]}},
        "prefix space": sequence(prefix=True, regex=True),
        "prefix space after splits": sequence(split({"String": "."}, "Isolated"), prefix=True),
        "no expression": sequence(),
        "like V2": {"pre_tokenizer": {"type": "Sequence", "pretokenizers": PUBLISHED_V2}},
        "digits together": sequence({"type": "Digits", "individual_digits": False}, regex=True),
        "empty match": sequence(split({"Regex": "x*"}, "Isolated")),
        "lookbehind, cases": sequence(split({"Regex": "(?<=[a-z])(?=[A-Z])|(?i:'s|'ll)|\\d+|^\\w|\\W$"}, "Isolated")),
        "nested sequence": {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Sequence", "pretokenizers": [split({"String": " "}, "MergedWithNext")]},
                            {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}]}},
        "added tokens": {"added_tokens": [
            added("[sep]", 0, rstrip=True), added("[word]", 1, single_word=True), added("[left]", 2, lstrip=True, normalized=True, special=False),
            added("[both]", 3, lstrip=True, rstrip=True), added("[s", 4, normalized=True, special=False), added("<tag>", 5), added("<tag><tag>", 6), added("éx", 7, special=False)]},
    }
    for behavior in ("Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"):
        for invert in (False, True):
            patches[f"{behavior}{', inverted' if invert else ''}"] = sequence(split({"Regex": "[\\s.,]"}, behavior, invert))
    rows = []
    for name, patch in patches.items():
        t = Tokenizer.from_str(json.dumps(patched(copy.deepcopy(base), patch)))
        texts = SENTENCES + list(synthetic(rng, 12))
        cases = []
        for text in texts:
            ids = t.encode(text, add_special_tokens=False).ids
            cases.append({"text": text, "ids": ids, "text_of_ids": t.decode(ids, skip_special_tokens=False)})
        rows.append({"name": name, "patch": patch, "rows": cases})
    write(out / "variants.jsonl", rows)


def chats(templates, out, rng):
    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)  # as transformers renders a chat_template
    env.filters["tojson"] = lambda x, ensure_ascii=False, indent=None, separators=None, sort_keys=False: json.dumps(
        x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
    load = lambda f: json.load(open(templates / f))["chat_template"]
    sources = {"v3": load("deepseek-v3.tokenizer_config.json"), "r1": load("deepseek-r1.tokenizer_config.json"),
               "v3.1": (templates / "deepseek-v3.1.chat_template.jinja").read_text()}
    say = ["Hi!", "", "  two\n\nlines ", "多行", "a </think> b</think> c", "<think>\nhm\n</think>\n\nyes", "{\"a\": 1}"]
    arguments = ["{\"city\": \"北京\", \"n\": [1.0, 1e16, -0.00001, 12345678901234567890123]}", "{}", "{\"q\":\"a\\\"b\\\\c\\n\\u00e9\\u0001\",\"q2\":null,\"q\":true}", "[]", "\"x\""]
    odd = [None, 7, ["x"], {"a": 1}, False]

    def call():
        c = {"type": "function", "function": {"name": rng.choice(("f", "get_weather")), "arguments": rng.choice(arguments)}}
        if rng.random() < 0.04:
            c.pop("type")
        return c

    def message():
        role = rng.choice(("system", "user", "user", "assistant", "assistant", "assistant", "tool"))
        m = {"role": role, "content": rng.choice(say) if rng.random() < 0.93 else rng.choice(odd)}
        if rng.random() < 0.03:
            m.pop("content")
        if role == "assistant" and rng.random() < 0.4:
            m["tool_calls"] = [call() for _ in range(rng.randrange(0, 4))] if rng.random() < 0.9 else None
            if rng.random() < 0.6:
                m["content"] = None
        if role == "assistant" and rng.random() < 0.2:
            m["prefix"] = rng.choice((True, False, 1, ""))
        return m

    rows = []
    for _ in range(150):
        messages = [message() for _ in range(rng.randrange(0, 7))]
        for name, source in sources.items():
            view = copy.deepcopy(messages)
            if name == "v3.1":  # the API's JSON text is handed to this template parsed
                for c in (c for m in view for c in m.get("tool_calls") or ()):
                    c["function"]["arguments"] = json.loads(c["function"]["arguments"])
            row = {"template": name, "messages": messages, "thinking": rng.random() < 0.5, "add_generation_prompt": rng.random() < 0.7}
            try:
                row["rendered"] = env.from_string(source).render(
                    messages=view, thinking=row["thinking"], add_generation_prompt=row["add_generation_prompt"],
                    bos_token="<｜begin▁of▁sentence｜>", eos_token="<｜end▁of▁sentence｜>")
            except Exception as e:  # what Jinja cannot render
                row["error"] = type(e).__name__
            rows.append(row)
    write(out / "chat.jsonl", rows)
    print(len(rows), "chats,", sum("error" in r for r in rows), "of them errors")


def main():
    model, templates, out = map(pathlib.Path, sys.argv[1:])
    out.mkdir(parents=True, exist_ok=True)
    story(model, out, random.Random(1))
    variants(out, random.Random(2))
    chats(templates, out, random.Random(3))


main()
