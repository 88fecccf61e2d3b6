#!/usr/bin/env python3
"""Mixed load on `fathom serve` for some time: streams and whole answers, short and long, sampled and greedy, repeated
prefixes, priorities, several answers a request, errors, and clients that leave in the middle, in bursts and pauses.

Before, in pauses during, and after it the same fixed greedy requests must give the same answers; at the end nothing
may run or wait, no block of the cache may be in use, and the memory may not have grown since the first part of the run.
The random numbers are of --seed, but what meets what is left to time. Standard library only.

usage: soak.py [--seconds 60] [--clients 24] [--seed 1] [--model DIR] [--server-options "..."]
"""
import argparse
import asyncio
import collections
import random
import shlex
import sys
import time

from harness import MODEL, Server
from http_stream import Target

# Memory that may be gained after the warm part: pages of the cache and of the allocator that had not been touched yet.
GROWTH_BYTES = 64 << 20
CHECK_SECONDS = 60
FIXED = [{"prompt": prompt, "max_tokens": 48, "temperature": 0} for prompt in (
    "Once upon a time there was a little girl who", "The old king called his three sons and said,",
    "It was a dark night, and", "\"Where are you going?\" asked the", "In the garden " * 60)]
WORDS = "the little fox and old king said that she was very glad to see a great house in wood by sea".split()


class Load:
    def __init__(self, target, rng, positions):
        self.target, self.rng, self.positions = target, rng, positions
        self.prefixes = [" ".join(rng.choice(WORDS) for _ in range(rng.randrange(20, positions // 4))) for _ in range(6)]
        self.count = collections.Counter()
        self.problems = []

    def body(self):
        rng = self.rng
        prompt = rng.choice(self.prefixes) if rng.random() < 0.5 else ""
        prompt += " " + " ".join(rng.choice(WORDS) for _ in range(rng.choice((1, 5, 30, 120))))
        body = {"prompt": prompt, "max_tokens": rng.choice((1, 2, 8, 32, 32, 128, 300)), "seed": rng.randrange(1 << 30),
                "temperature": rng.choice((0, 0.7, 1, 1.5)), "priority": rng.randrange(-2, 3)}
        if rng.random() < 0.5:
            body["stream"] = True
            body["stream_options"] = {"include_usage": True}
        for field, value in (("n", rng.randrange(2, 5)), ("stop", [" the", "\n"]), ("logprobs", rng.randrange(0, 21)),
                             ("frequency_penalty", 0.5), ("top_k", 40), ("min_p", 0.05), ("top_p", 0.9),
                             ("ignore_eos", True), ("logit_bias", {"300": 2}), ("echo", True), ("repetition_penalty", 1.1)):
            if rng.random() < 0.15:
                body[field] = value
        if rng.random() < 0.1:
            body["prompt"] = [rng.randrange(3, 4000) for _ in range(rng.choice((1, 64, 65, self.positions // 2)))]
        if rng.random() < 0.05:
            body["prompt"] = [body["prompt"], body["prompt"]]
        return body

    async def wrong(self):
        rng = self.rng
        body = rng.choice(({"prompt": "x", "temperature": 7}, {"prompt": []}, {"prompt": "x", "max_tokens": "y"}, b"{", b"",
                           {"prompt": [3] * (self.positions + 1)}, {"prompt": "x", "tools": [1]}, b"[" * 10000))
        answer = await self.target.completion(body)
        self.expect(answer.status in (400, 404), f"{str(body)[:80]} got {answer.status}")
        self.count["refused"] += 1

    async def right(self):
        rng, body = self.rng, self.body()
        drop = rng.choice((0, 1, 3, 20)) if rng.random() < 0.25 else None
        if drop and not body.get("stream"):
            drop = 0
        answer = await self.target.completion(body, drop_after=drop)
        if answer.dropped:
            self.count["left"] += 1
            return
        if answer.status == 429 or answer.status == 503:
            self.expect("retry-after" in answer.headers, "429 without Retry-After")
            self.count["sent away"] += 1
            return
        self.expect(answer.status == 200, f"{str(body)[:300]} got {answer.status}: {answer.body[:300]}")
        if answer.status != 200:
            return
        if body.get("stream"):
            self.expect(answer.done, f"a stream ended early: {str(body)[:300]}")
            choices = [c for _, c in answer.choices() if c["finish_reason"]]
            usage = answer.usage()
        else:
            choices, usage = answer.json()["choices"], answer.json()["usage"]
        wanted = body.get("n", 1) * (len(body["prompt"]) if isinstance(body["prompt"][0], (str, list)) and
                                     isinstance(body["prompt"], list) else 1)
        self.expect(len(choices) == wanted, f"{len(choices)} ends for {wanted} answers: {str(body)[:300]}")
        self.expect(all(c["finish_reason"] in ("stop", "length") for c in choices),
                    f"{[c['finish_reason'] for c in choices]}: {str(body)[:300]}")
        self.expect(usage is not None and usage["completion_tokens"] <= wanted * body["max_tokens"],
                    f"usage {usage}: {str(body)[:300]}")
        self.count["answered"] += 1
        self.count["tokens"] += usage["completion_tokens"] if usage else 0

    def expect(self, truth, what):
        if not truth:
            self.problems.append(what)

    async def client(self, until):
        while time.monotonic() < until and len(self.problems) < 20:
            try:
                await (self.wrong() if self.rng.random() < 0.1 else self.right())
            except (ConnectionError, asyncio.IncompleteReadError, TimeoutError) as error:
                self.problems.append(f"{type(error).__name__}: {error}")
            if self.rng.random() < 0.05:
                await asyncio.sleep(self.rng.random())

    async def burst(self, clients, until):
        await asyncio.gather(*(self.client(until) for _ in range(clients)))


async def fixed_answers(target):
    answers = []
    for body in FIXED:
        answer = await target.completion(body)
        answers.append(answer.json()["choices"][0]["text"] if answer.status == 200 else f"{answer.status} {answer.body}")
    return answers


def run(args, server):
    target = Target(server.url)
    load = Load(target, random.Random(args.seed), args.positions)
    expected = asyncio.run(fixed_answers(target))
    if any(not text or text[:3].isdigit() for text in expected):
        raise SystemExit(f"the fixed requests failed: {expected}")
    end = time.monotonic() + args.seconds
    part, warm = min(CHECK_SECONDS, max(args.seconds / 4, 2)), 0
    while time.monotonic() < end and not load.problems:
        asyncio.run(load.burst(load.rng.choice((args.clients, args.clients // 2, 2 * args.clients, 1)) or 1,
                               min(end, time.monotonic() + part)))
        state = server.wait_idle(60)
        if asyncio.run(fixed_answers(target)) != expected:
            load.problems.append("a fixed request is answered differently")
        used = state.get("fathom:kv_cache_usage_perc")
        if used != 0:
            load.problems.append(f"kv_cache_usage_perc is {used} while nothing runs")
        resident = server.resident_bytes()
        warm = warm or resident
        print(f"{args.seconds - (end - time.monotonic()):6.0f} s  {resident / 1e6:.0f} MB  {dict(load.count)}  preempted "
              f"{state['fathom:num_preemptions_total']:.0f}, drafts kept "
              f"{state['fathom:spec_decode_num_accepted_tokens_total']:.0f} of "
              f"{state['fathom:spec_decode_num_draft_tokens_total']:.0f}", flush=True)
    grown = server.resident_bytes() - warm
    if grown > GROWTH_BYTES and not args.sanitized:
        load.problems.append(f"memory grew by {grown / 1e6:.0f} MB after the first {part:.0f} s")
    for name in ("answered", "refused", "left"):  # a sanitized program answers too few for every kind to be sure
        load.expect(load.count[name] > 0 or args.sanitized and name != "answered", f"no request was {name}")
    return load


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--clients", type=int, default=24)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--positions", type=int, default=2048, help="of the model's context")
    parser.add_argument("--sanitized", action="store_true", help="the program's freed memory is held back: do not judge growth")
    parser.add_argument("--server-options", default="--max-running 16 --max-waiting 64 --cache-tokens 2048 --batch-invariant",
                        help="of fathom serve; by default a cache so small that requests are preempted, and answers that "
                             "do not depend on what else runs")
    args = parser.parse_args()
    with Server("--no-log", *shlex.split(args.server_options), model=args.model) as server:
        load = run(args, server)
    for problem in load.problems:
        print(f"FAILED: {problem}")
    sys.exit(1 if load.problems else 0)


if __name__ == "__main__":
    main()
