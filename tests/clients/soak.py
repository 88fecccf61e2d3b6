#!/usr/bin/env python3
"""Mixed load on `fathom serve` with everything switched on: requests of all APIs (mixed_requests.py), streamed and whole, by
clients that stay and clients that leave in the middle, in bursts and pauses; keys with limits, usage in SQLite, the cache on
disk with a small limit, a trace, an access log, and two models of which one fits into the memory. Meanwhile the keys are
changed, the log is rotated and SIGHUP is sent.

Before, during and after the load the same greedy requests must be answered the same. In pauses nothing may run, wait or hold
a key's place, no block of the cache may be in use; neither memory nor open files may grow after the first part of the run.
Each complete answer that a schema, an expression, a grammar or a tool binds must fit it. At the end the accounts of keys must
be what their clients were told. The random numbers are of --seed, but what meets what is left to time. Standard library only
(with the package jsonschema generated schemas are asked for too).

usage: soak.py [--seconds 60] [--clients 24] [--seed 1] [--server-options "..."]
"""
import argparse
import asyncio
import collections
import json
import pathlib
import random
import shlex
import signal
import subprocess
import sys
import tempfile
import time

from harness import BINARY, MODEL, SOURCE, Server
from http_stream import Target
from mixed_requests import ENDED, PATTERNS, PERSON, TOOLS, Ask, Requests
from replies import read_reply

# Memory that may be gained after the warm part: pages of the cache and of the allocator that had not been touched yet.
GROWTH_BYTES = 64 << 20
GROWTH_FILES = 4
DISK_CACHE_GIB = 0.02  # some 80 blocks
POSITIONS = {"tale": 2048, "tiny": 1024}
STAYING, LEAVING, LIMITED = "key-that-stays", "key-that-leaves", "key-with-limits"
CONFIG = """
admin-key = ["root"]
api-key-file = "{folder}/keys.toml"
usage-db = "{folder}/usage.db"
log-file = "{folder}/access.jsonl"
trace = "{folder}/trace.json"
disk-cache = "{folder}/cache"
disk-cache-gib = {disk}
keep-alive-seconds = 1.0
memory-limit = {limit}
max-parked = 40
max-running = 16
max-waiting = 64
cache-tokens = 2048     # so few that requests are preempted
batch-invariant = true  # answers do not depend on what else runs
[[models]]
name = "tale"
path = "{model}"
template = "v3"
[[models]]
name = "tiny"
path = "{folder}/tiny"
template = "v3.1"
drafts = 2
"""


class Site:
    """The folder of a server: its configuration, keys, a second model with random weights, and what it writes."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        config = json.loads((SOURCE / "configs/models/tiny-1m.json").read_text())
        config.update(vocab_size=json.loads((MODEL / "config.json").read_text())["vocab_size"],
                      max_position_embeddings=POSITIONS["tiny"])
        (self.folder / "tiny.json").write_text(json.dumps(config))
        subprocess.run([BINARY, "init", self.folder / "tiny.json", self.folder / "tiny"], check=True, stdout=subprocess.DEVNULL)
        for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
            (self.folder / "tiny" / name).symlink_to(MODEL / name)
        self.write_keys("first-guest")
        with self.server(limit=0) as server:
            for name in POSITIONS:
                server.post("/v1/completions", {"model": name, "prompt": "x"}, {"Authorization": f"Bearer {STAYING}"})
            together = server.metrics()["fathom:model_bytes"]
        (self.folder / "usage.db").unlink()
        self.limit = (together - (1 << 19)) / 2**30  # either fits, not both

    def server(self, *options, limit=None):
        text = CONFIG.format(folder=self.folder, model=MODEL, disk=DISK_CACHE_GIB, limit=self.limit if limit is None else limit)
        (self.folder / "server.toml").write_text(text)
        return Server("--config", self.folder / "server.toml", *options, model=None)

    def write_keys(self, guest):
        keys = [{"key": STAYING}, {"key": LEAVING}, {"key": guest},
                {"key": LIMITED, "requests-per-minute": 120, "tokens-per-minute": 9000, "concurrent": 1}]
        new = self.folder / "keys.new"
        new.write_text("".join("[[key]]\n" + "".join(f"{k} = {json.dumps(v)}\n" for k, v in {"name": key["key"], **key}.items())
                               for key in keys))
        new.replace(self.folder / "keys.toml")

    def accounts(self):
        shown = subprocess.run([BINARY, "usage", self.folder / "usage.db", "--json", "--by", "key"], capture_output=True, text=True,
                               check=True).stdout
        return {row["key"]: row for row in map(json.loads, shown.splitlines())}


def fixed_requests():
    say, ask = "Once upon a time there was a little girl who", [{"role": "user", "content": "Tell me of a fox."}]
    begun, length = [*ask, {"role": "assistant", "content": "A fox", "prefix": True}], {"max_tokens": 48}
    tools = [{"type": "function", "function": {"name": n, "parameters": s, "strict": True}} for n, (s, _) in TOOLS.items()]
    schema = {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON}}
    asks = [*(Ask("completions", "/v1/completions", {"prompt": prompt, **length}) for prompt in (say, "In the garden " * 60)),
            Ask("completions", "/v1/completions", {"prompt": say, PATTERNS[0][0]: PATTERNS[0][1], **length}),
            Ask("completions", "/beta/completions", {"prompt": say, "suffix": " and went home.", **length}),
            Ask("chat", "/v1/chat/completions", {"messages": ask, "response_format": schema, "max_tokens": 100}),
            Ask("chat", "/v1/chat/completions", {"messages": ask, "tools": tools, "tool_choice": "required", "max_tokens": 100}),
            Ask("chat", "/beta/chat/completions", {"messages": begun, **length}),
            Ask("messages", "/v1/messages", {"messages": ask, **length}),
            Ask("responses", "/v1/responses", {"input": ask, "max_output_tokens": 48})]
    return [a._replace(body={"model": model, "temperature": 0, **a.body}) for model in ("tiny", "tale") for a in asks]


class Load:
    def __init__(self, site, server, seed):
        self.site, self.server = site, server
        self.rng = random.Random(seed)
        self.requests = Requests(self.rng, list(POSITIONS.items()))
        self.targets = {key: Target(server.url, key) for key in (STAYING, LEAVING, LIMITED)}
        self.fixed = fixed_requests()
        self.expected = []
        self.count = collections.Counter()
        self.told = {key: collections.Counter() for key in self.targets}
        self.guests = 0
        self.problems = []

    def expect(self, truth, what):
        if not truth:
            self.problems.append(what)
        return truth

    async def send(self, key, ask, **options):
        """The reply, or None where the client left or was sent away; counts what it was told."""
        answer = await self.targets[key].request("POST", ask.path, ask.body, **options)
        told, shown = self.told[key], f"{ask.path} {json.dumps(ask.body)[:600]}"
        if answer.dropped:
            self.count["left"] += 1
            return None
        if answer.status in (429, 503, 529):
            if self.expect("retry-after" in answer.headers, f"{answer.status} without Retry-After"):
                self.count["over a limit" if b"rate_limit" in answer.body else "sent away"] += 1
            await asyncio.sleep(0.2)
            return None
        refused = b"output_config.format" if ask.api == "messages" else b"invalid_grammar"  # errors there have no code
        if answer.status in (400, 422) and ask.may_refuse and refused in answer.body:
            self.count["schemas refused"] += 1
            return None
        if not self.expect(answer.status == 200, f"{shown} got {answer.status}: {answer.body[:300]}"):
            return None
        reply = read_reply(ask.api, answer)
        if self.expect(not reply.error and reply.complete, f"{shown} ended with {reply.error}, complete: {reply.complete}"):
            told.update(answers=1, prompt=reply.prompt_tokens, completion=reply.completion_tokens)
            self.count["answered"] += 1
            self.count["tokens"] += reply.completion_tokens
        return reply

    async def right(self, key):
        ask = self.requests.any()
        drop = self.rng.choice((0, 1, 3, 20)) if key == LEAVING and self.rng.random() < 0.4 else None
        reply = await self.send(key, ask, drop_after=drop if ask.body.get("stream") or not drop else 0)
        if not reply:
            return
        body, shown = ask.body, f"{ask.path} {json.dumps(ask.body)[:600]}"
        wanted = body.get("n", 1) * (len(body["prompt"]) if isinstance(body.get("prompt"), list) and
                                     isinstance(body["prompt"][0], str) else 1)
        self.expect(len(reply.choices) == wanted, f"{len(reply.choices)} answers for {wanted}: {shown}")
        most = body.get("max_tokens", body.get("max_output_tokens"))
        self.expect(reply.completion_tokens <= wanted * most, f"{reply.completion_tokens} tokens: {shown}")
        for choice in reply.choices:
            self.expect(choice.finish in (*ENDED, "length", "max_tokens", "stop_sequence"), f"finish {choice.finish}: {shown}")
            if ask.check and choice.finish in ENDED:
                self.count["bound answers"] += 1
                self.expect(fits(ask.check, choice), f"{choice.said()} does not fit: {shown}")
        if ask.api == "chat" and reply.choices[0].calls and reply.choices[0].finish in ENDED:
            self.count["calls answered"] += await self.send(key, self.requests.results(ask, reply)) is not None

    async def wrong(self, key):
        path, body = self.requests.wrong()
        answer = await self.targets[key].request("POST", path, body)
        self.expect(answer.status in (400, 404, 422, 429), f"{path} {str(body)[:80]} got {answer.status}")
        self.count["refused"] += answer.status != 429

    async def same(self):
        """One of the fixed requests, while others run."""
        i = self.rng.randrange(len(self.fixed))
        reply = await self.send(STAYING, self.fixed[i])
        if reply and self.expect(reply.said() == self.expected[i], f"answered differently under load: {self.fixed[i]}: {reply.said()}"):
            self.count["same under load"] += 1

    async def client(self, key, until):
        while time.monotonic() < until and len(self.problems) < 20:
            chance = self.rng.random()
            try:
                if chance < 0.1:
                    await self.wrong(key)
                elif chance < 0.2 and key == STAYING:
                    await self.same()
                else:
                    await self.right(key)
            except (ConnectionError, asyncio.IncompleteReadError, TimeoutError) as error:
                self.problems.append(f"{type(error).__name__}: {error}")
            if self.rng.random() < 0.05:
                await asyncio.sleep(self.rng.random())

    async def status_of(self, key):
        return (await Target(self.server.url, key).request("GET", "/v1/models")).status

    async def operator(self, until):
        """Gives a guest a key and takes the last one's away, rotates the log, sends SIGHUP; sometimes a file has a mistake."""
        log = self.site.folder / "access.jsonl"
        while time.monotonic() < until:
            self.guests += 1
            if self.guests % 4 == 0:
                (self.site.folder / "keys.toml").write_text("[[key]\n")
                self.server.process.send_signal(signal.SIGHUP)
                await asyncio.sleep(0.3)
            self.site.write_keys(f"guest-{self.guests}")
            log.replace(log.with_suffix(".old"))
            self.server.process.send_signal(signal.SIGHUP)
            deadline = time.monotonic() + 20
            while not (log.exists() and await self.status_of(f"guest-{self.guests}") == 200):
                if not self.expect(time.monotonic() < deadline, f"reload {self.guests} had no effect in 20 s"):
                    return
                await asyncio.sleep(0.05)
            self.expect(await self.status_of(f"guest-{self.guests - 1}") == 401, "a key that was taken away is taken")
            for line in log.with_suffix(".old").read_text().splitlines():
                json.loads(line)
            self.count["reloads"] += 1
            await asyncio.sleep(1 + 2 * self.rng.random())

    async def burst(self, clients, until):
        keys = ((LEAVING, STAYING, LIMITED, STAYING, LEAVING) * clients)[:clients]
        await asyncio.gather(self.operator(until), *(self.client(key, until) for key in keys))

    async def all_fixed(self):
        replies = [await self.send(STAYING, ask) for ask in self.fixed]
        return [reply and reply.said() for reply in replies]

    def pause(self):
        """What must be true while nothing is asked; the state then."""
        self.server.wait_idle(60)
        if asyncio.run(self.all_fixed()) != self.expected:
            self.problems.append("a fixed request is answered differently")
        state = self.server.wait_idle(60)
        for name in ("fathom:kv_cache_usage_perc", "fathom:model_requests_parked", "fathom:model_load_failures_total"):
            self.expect(state[name] == 0, f"{name} is {state[name]} while nothing runs")
        self.expect(state["fathom:usage_accounting_up"] == 1, "usage is not written")
        self.expect(state["fathom:disk_cache_bytes"] <= DISK_CACHE_GIB * 2**30, f"{state['fathom:disk_cache_bytes']} bytes on disk")
        admin = json.loads(self.server.get("/admin/state", {"Authorization": "Bearer root"})[2])
        self.expect(all(key["running"] == 0 for key in admin["keys"]), f"a key's place is held: {admin['keys']}")
        state["resident"], state["files"] = self.server.resident_bytes(), self.server.open_files()
        return state

    def check_accounts(self):
        """Clients that stay were told everything; what those who left had is in their account too."""
        accounts = self.site.accounts()
        for key, told in self.told.items():
            row = accounts.get(key, collections.Counter())
            had = (row["requests"] - row["errors"], row["prompt_tokens"], row["completion_tokens"])
            said = (told["answers"], told["prompt"], told["completion"])
            print(f"{key}: {had[0]} answers, {had[1]} and {had[2]} tokens in the account; its clients were told {said}")
            if key == LEAVING:
                self.expect(all(h >= s for h, s in zip(had, said)), f"{key}: {row} is less than its clients were told: {said}")
            else:
                self.expect(had == said, f"{key}: {row}, but its clients were told {said}")


def fits(check, choice):
    try:
        return check(choice)
    except (ValueError, KeyError, TypeError, AttributeError):
        return False


def run(args, site, server):
    load = Load(site, server, args.seed)
    load.expected = asyncio.run(load.all_fixed())
    if None in load.expected:
        raise SystemExit(f"the fixed requests failed: {load.problems}")
    end = time.monotonic() + args.seconds
    part, warm = min(args.check_seconds, max(args.seconds / 2, 2)), None
    while time.monotonic() < end and not load.problems:
        clients = load.rng.choice((args.clients, args.clients // 2, 2 * args.clients, 1)) if warm else args.clients
        asyncio.run(load.burst(clients or 1, min(end, time.monotonic() + part)))
        state = load.pause()
        warm = warm or state
        print(f"{args.seconds - (end - time.monotonic()):6.0f} s  {state['resident'] / 1e6:.0f} MB  {state['files']} files  "
              f"{dict(load.count)}  loads {state['fathom:model_loads_total']:.0f}, on disk "
              f"{state['fathom:disk_cache_bytes'] / 1e6:.0f} MB, evicted {state['fathom:disk_cache_evicted_blocks_total']:.0f}, refused by "
              f"limits {state['fathom:key_requests_refused_total']:.0f}", flush=True)
    for name, most in (("resident", GROWTH_BYTES), ("files", GROWTH_FILES)):
        grown = state[name] - warm[name]
        if grown > most and not args.sanitized:
            load.problems.append(f"{name} grew by {grown} after the first {part:.0f} s")
    for name, answers in (("answered", 0), ("refused", 200), ("left", 200), ("bound answers", 200), ("over a limit", 200),
                          ("calls answered", 1000), ("same under load", 1000)):
        load.expect(load.count[name] > 0 or load.count["answered"] < answers, f"{name}: none in {load.count['answered']} answers")
    return load


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--check-seconds", type=float, default=60, help="from pause to pause")
    parser.add_argument("--clients", type=int, default=24)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--sanitized", action="store_true", help="the program's freed memory is held back: do not judge growth")
    parser.add_argument("--server-options", default="", help="of fathom serve, more")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        site = Site(folder)
        with site.server(*shlex.split(args.server_options)) as server:
            load = run(args, site, server)
        load.check_accounts()
        trace = site.folder / "trace.json"
        if trace.stat().st_size < 200 << 20:
            spans = {event["name"] for event in json.loads(trace.read_text())}
            load.expect({"request", "prefill", "decode", "write"} <= spans, f"the trace has {spans} only")
        load.expect(trace.stat().st_size <= 1 << 30, "the trace is beyond its limit")
    for problem in load.problems:
        print(f"FAILED: {problem}")
    sys.exit(1 if load.problems else 0)


if __name__ == "__main__":
    main()
