"""What runs a server for long: keys with limits, reloads, accounting, several models, traces, the admin page's figures, and a
restart under load. Standard library only.
"""
import asyncio
import hashlib
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest

from harness import BINARY, MODEL, SOURCE, Server, free_port
from http_stream import Target

ASK = {"prompt": "Once upon a time", "max_tokens": 8, "temperature": 0, "ignore_eos": True}


def bearer(key):
    return {"Authorization": f"Bearer {key}"}


def until(condition, what, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.05)


def usage(database, *options):
    """Rows of fathom usage."""
    ended = subprocess.run([BINARY, "usage", str(database), "--json", *options], capture_output=True, text=True, timeout=60)
    if ended.returncode != 0:
        raise AssertionError(ended.stderr)
    return [json.loads(line) for line in ended.stdout.splitlines()]


class FolderCase(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))


class Keys(FolderCase):
    def test_limits(self):
        keys = self.folder / "keys.jsonl"
        digest = hashlib.sha256(b"slow-key").hexdigest()
        keys.write_text("# who may ask\nplain-key\n"
                        + json.dumps({"name": "slow", "sha256": digest, "requests_per_minute": 2}) + "\n"
                        + json.dumps({"name": "few", "key": "few-key", "tokens_per_minute": 9}) + "\n"
                        + json.dumps({"name": "single", "key": "single-key", "concurrent": 1}) + "\n")
        with Server("--no-log", "--api-key", "flag-key", "--api-key-file", keys) as server:
            self.assertEqual(server.post("/v1/completions", ASK)[0], 401)
            self.assertEqual(server.post("/v1/completions", ASK, bearer(digest))[0], 401)
            for key in ("plain-key", "flag-key"):
                self.assertEqual(server.post("/v1/completions", ASK, bearer(key))[0], 200)
            left = []
            for _ in range(2):
                status, head, _ = server.call("POST", "/v1/completions", ASK, bearer("slow-key"))
                self.assertEqual((status, head["x-ratelimit-limit-requests"]), (200, "2"))
                left.append(head["x-ratelimit-remaining-requests"])
            self.assertEqual(left, ["1", "0"])
            status, head, data = server.call("POST", "/v1/completions", ASK, bearer("slow-key"))
            self.assertEqual((status, json.loads(data)["error"]["code"]), (429, "rate_limit_exceeded"))
            self.assertTrue(1 <= int(head["retry-after"]) <= 30)
            self.assertEqual(server.get("/v1/models", bearer("slow-key"))[0], 200, "what costs nothing is not limited")
            # Its first answer takes more tokens than the minute has: the next one waits.
            status, head, _ = server.call("POST", "/v1/completions", ASK, bearer("few-key"))
            self.assertEqual((status, head["x-ratelimit-remaining-tokens"]), (200, "0"))
            status, head, _ = server.call("POST", "/v1/completions", ASK, bearer("few-key"))
            self.assertEqual((status, head["x-ratelimit-remaining-tokens"]), (429, "0"))

            async def two_at_once():
                target = Target(server.url, "single-key")
                long = {**ASK, "max_tokens": 600, "stream": True}
                return await asyncio.gather(target.completion(long), target.completion(long))

            self.assertEqual(sorted(a.status for a in asyncio.run(two_at_once())), [200, 429])
            server.wait_idle()
            self.assertEqual(server.post("/v1/completions", ASK, bearer("single-key"))[0], 200)
            self.assertEqual(server.metrics()["fathom:key_requests_refused_total"], 3)

    def test_the_file_is_read_again(self):
        keys = self.folder / "keys.toml"
        keys.write_text('[[key]]\nname = "a"\nkey = "first"\n')
        with Server("--no-log", "--api-key-file", keys) as server:
            status = lambda key: server.get("/v1/models", bearer(key))[0]
            self.assertEqual((status("first"), status("second")), (200, 401))
            keys.write_text('[[key]]\nname = "b"\nkey = "second"\n')
            until(lambda: status("second") == 200, "the changed file is read")
            self.assertEqual(status("first"), 401)
            keys.write_text('[[key]]\nname = "c"\nkey = \n')
            until(lambda: "stay as they were" in server.output(), "the broken file is named")
            self.assertEqual(status("second"), 200, "a broken file changes nothing")
            replacement = self.folder / "new"
            replacement.write_text('[[key]]\nname = "c"\nkey = "third"\n')
            os.replace(replacement, keys)
            server.process.send_signal(signal.SIGHUP)
            until(lambda: status("third") == 200, "SIGHUP reads it")

    def test_sighup(self):
        config, log = self.folder / "server.toml", self.folder / "access.jsonl"
        config.write_text(f'api-key = ["one"]\nmax-running = 3\nlog-file = "{log}"\n')
        with Server("--config", config) as server:
            self.assertEqual(server.get("/v1/models", bearer("one"))[0], 200)
            until(lambda: "/v1/models" in log.read_text(), "the access log")
            log.rename(self.folder / "rotated.jsonl")
            config.write_text(f'api-key = ["two"]\nmax-running = 4\nlog-file = "{log}"\n')
            server.process.send_signal(signal.SIGHUP)
            until(lambda: server.get("/v1/models", bearer("two"))[0] == 200, "the new key")
            self.assertEqual(server.get("/v1/models", bearer("one"))[0], 401)
            until(lambda: log.exists() and "/v1/models" in log.read_text(), "the log has a new file")
            self.assertIn("max-running has changed", server.output())
            self.assertNotIn("api-key has changed", server.output())
            config.write_text("api-key = [\n")
            server.process.send_signal(signal.SIGHUP)
            until(lambda: "the options stay as they were" in server.output(), "a broken file is named")
            self.assertEqual(server.get("/v1/models", bearer("two"))[0], 200)


class Accounting(FolderCase):
    def test_by_key_and_model(self):
        database = self.folder / "usage.db"
        options = ("--no-log", "--api-key", "k1", "--api-key", "k2", "--usage-db", database, "--served-model-name", "tale")
        with Server(*options) as server:
            for _ in range(2):
                status, answer = server.post("/v1/completions", ASK, bearer("k1"))
                self.assertEqual(status, 200)
            self.assertEqual(server.post("/v1/completions", {**ASK, "temperature": 9}, bearer("k2"))[0], 400)
            used = answer["usage"]
        rows = {row["key"]: row for row in usage(database)}
        self.assertEqual({k: rows["api-key-1"][k] for k in ("model", "requests", "errors", "prompt_tokens", "completion_tokens")},
                         {"model": "tale", "requests": 2, "errors": 0, "prompt_tokens": 2 * used["prompt_tokens"],
                          "completion_tokens": 2 * used["completion_tokens"]})
        self.assertEqual((rows["api-key-2"]["requests"], rows["api-key-2"]["errors"]), (1, 1))
        with Server(*options) as server:
            server.post("/v1/completions", ASK, bearer("k1"))
            server.process.kill()
            server.process.wait()
            server.process = None
            server.log.close()
        self.assertGreaterEqual(usage(database, "--by", "key")[0]["requests"], 2, "what was written survives a kill")
        text = subprocess.run([BINARY, "usage", str(database)], capture_output=True, text=True, timeout=60).stdout
        self.assertIn("completion", text.splitlines()[0])
        self.assertTrue(text.splitlines()[-1].startswith("total"))

    def test_who_is_sent_away_pays_nothing(self):
        database = self.folder / "usage.db"
        with Server("--no-log", "--max-running", "1", "--max-waiting", "1", "--usage-db", database) as server:
            async def at_once():
                target = Target(server.url)
                return await asyncio.gather(*(target.completion({**ASK, "max_tokens": 200}) for _ in range(6)))

            answers = asyncio.run(at_once())
        answered = [a.json()["usage"]["prompt_tokens"] for a in answers if a.status == 200]
        self.assertEqual({a.status for a in answers}, {200, 429})
        (row,) = usage(database)
        self.assertEqual([row[k] for k in ("requests", "errors", "prompt_tokens")], [6, 6 - len(answered), sum(answered)])

    def test_damage_stops_the_accounting_alone(self):
        database = self.folder / "usage.db"
        database.write_bytes(b"this is no database" * 1000)
        with Server("--no-log", "--usage-db", database) as server:
            self.assertEqual(server.post("/v1/completions", ASK)[0], 200)
            until(lambda: server.metrics()["fathom:usage_accounting_up"] == 0, "the metric says so")
            self.assertEqual(server.output().count("usage database"), 1)
            database.rename(self.folder / "damaged.db")
            server.process.send_signal(signal.SIGHUP)
            until(lambda: server.metrics()["fathom:usage_accounting_up"] == 1, "it goes on with a new file")
        self.assertEqual(usage(database)[0]["requests"], 1)
        ended = subprocess.run([BINARY, "usage", str(self.folder / "damaged.db")], capture_output=True, text=True, timeout=60)
        self.assertEqual(ended.returncode, 1)
        self.assertIn("not a database", ended.stderr)


class Models(FolderCase):
    """alpha and beta fit into the memory one at a time; broken has no weights."""

    def setUp(self):
        super().setUp()
        for name in ("a", "b", "broken"):
            (self.folder / name).mkdir()
            for file in MODEL.iterdir():
                if name != "broken" or file.suffix != ".safetensors":
                    (self.folder / name / file.name).symlink_to(file)
        self.config = self.folder / "server.toml"

    def write(self, *, limit, preload="", options="ctx-size = 512\ncache-tokens = 2048\n"):
        models = "".join(f'[[models]]\nname = "{name}"\npath = "{self.folder / path}"\n'
                         + ("preload = true\n" if name == preload else "")
                         for name, path in (("alpha", "a"), ("beta", "b"), ("broken", "broken")))
        self.config.write_text(f"memory-limit = {limit}\nno-log = true\n{options}{models}")

    def start(self, *options):
        return Server("--config", self.config, *options, model=None)

    def states(self, server):
        listed = json.loads(server.get("/v1/models")[2])["data"]
        return {m["id"]: m["state"] for m in listed if m["id"] in ("alpha", "beta", "broken")}

    def test_on_demand(self):
        self.write(limit=0)
        with self.start() as server:
            self.assertEqual(self.states(server), {"alpha": "unloaded", "beta": "unloaded", "broken": "unloaded"})
            self.assertEqual(server.get("/")[0], 200, "the page needs no model")
            answers = {}
            for name in ("alpha", "beta"):
                status, answers[name] = server.post("/v1/completions", {**ASK, "model": name})
                self.assertEqual(status, 200, answers[name])
                self.assertEqual(answers[name]["model"], name)
            self.assertEqual(answers["alpha"]["choices"], answers["beta"]["choices"])
            self.assertEqual(self.states(server), {"alpha": "ready", "beta": "ready", "broken": "unloaded"})
            status, error = server.post("/v1/completions", {**ASK, "model": "broken"})
            self.assertEqual((status, error["error"]["code"]), (503, "model_not_loaded"))
            self.assertIn("holds no weights", error["error"]["message"])
            self.assertEqual(self.states(server)["broken"], "failed")
            self.assertEqual(server.post("/v1/completions", {**ASK, "model": "other"})[0], 404)
            self.assertEqual(server.post("/v1/completions", ASK)[1]["model"], "alpha", "the first, where none is named")
            self.assertEqual(server.get("/health")[0], 200)
            self.assertEqual(server.get("/v1/models/beta")[0], 200)
            self.assertEqual(server.get("/v1/models/other")[0], 404)
            text = server.get("/metrics")[2].decode()
            self.assertEqual(text.count("# TYPE fathom:generation_tokens_total counter"), 1)
            for name in ("alpha", "beta"):
                self.assertIn(f'fathom:generation_tokens_total{{model_name="{name}"}}', text)

    def test_those_who_wait_for_a_model(self):
        self.write(limit=0)

        async def at_once(server):
            target = Target(server.url)
            return await asyncio.gather(*(target.completion({**ASK, "model": "alpha"}) for _ in range(6)),
                                        target.completion({**ASK, "model": "beta"}))

        with self.start("--max-parked", "4") as server:
            statuses = sorted(a.status for a in asyncio.run(at_once(server)))
            # Only those that came before the model was there could be too many.
            self.assertTrue(set(statuses) <= {200, 429} and statuses.count(200) >= 4, statuses)
            self.assertEqual(server.metrics()["fathom:model_loads_total"], self.states_ready(server))

    def states_ready(self, server):
        return sum(state == "ready" for state in self.states(server).values())

    def test_the_longest_unused_makes_room(self):
        self.write(limit=0)
        with self.start() as server:
            server.post("/v1/completions", {**ASK, "model": "alpha"})
            one = server.metrics()["fathom:model_bytes"]
        self.write(limit=1.5 * one / 2**30)
        with self.start() as server:
            for name, other in (("alpha", "beta"), ("beta", "alpha"), ("alpha", "beta")):
                self.assertEqual(server.post("/v1/completions", {**ASK, "model": name})[0], 200)
                self.assertEqual(self.states(server), {name: "ready", other: "unloaded", "broken": "unloaded"})
            self.assertEqual(server.metrics()["fathom:model_evictions_total"], 2)

            async def a_stream_is_not_cut():
                target = Target(server.url)
                long = asyncio.create_task(target.completion({**ASK, "model": "alpha", "max_tokens": 400, "stream": True}))
                while await asyncio.to_thread(lambda: server.metrics()["fathom:num_requests_running"]) == 0:
                    await asyncio.sleep(0.01)
                return await asyncio.gather(long, target.completion({**ASK, "model": "beta"}))

            long, other = asyncio.run(a_stream_is_not_cut())
            self.assertEqual((long.status, long.done, other.status), (200, True, 200))
            self.assertEqual(len([1 for _ in long.choices()]) > 50, True)
            async def a_busy_model_takes_turns():
                target = Target(server.url)
                beta = asyncio.create_task(asyncio.sleep(0))

                async def always():
                    statuses = []
                    while not beta.done():
                        statuses.append((await target.completion({**ASK, "model": "alpha", "max_tokens": 150})).status)
                    return statuses

                self.assertEqual((await target.completion({**ASK, "model": "alpha"})).status, 200)
                beta = asyncio.create_task(target.completion({**ASK, "model": "beta"}))
                others = await asyncio.gather(*(always() for _ in range(4)))
                return (await beta).status, {status for each in others for status in each}

            self.assertEqual(asyncio.run(a_busy_model_takes_turns()), (200, {200}))
        self.write(limit=0.5 * one / 2**30)
        with self.start() as server:
            status, error = server.post("/v1/completions", {**ASK, "model": "alpha"})
            self.assertEqual(status, 503)
            self.assertIn("GiB", error["error"]["message"])
        self.write(limit=1.5 * one / 2**30, preload="alpha")
        with self.start() as server:
            self.assertEqual(self.states(server)["alpha"], "ready")
            self.assertEqual(server.post("/v1/completions", {**ASK, "model": "beta"})[0], 503, "what is kept makes no room")
            self.assertEqual(server.post("/v1/completions", {**ASK, "model": "alpha"})[0], 200)

    def test_a_key_is_needed_to_load(self):
        self.write(limit=0)
        with self.start("--api-key", "k") as server:
            self.assertEqual(server.post("/v1/completions", {**ASK, "model": "alpha"})[0], 401)
            self.assertEqual(server.get("/v1/models")[0], 401)
            self.assertEqual(server.metrics()["fathom:model_loads_total"], 0)
            self.assertEqual(server.post("/v1/completions", {**ASK, "model": "alpha"}, bearer("k"))[0], 200)


class Traces(FolderCase):
    def test_spans(self):
        trace = self.folder / "trace.json"
        with Server("--no-log", "--trace", trace) as server:
            async def some():
                target = Target(server.url)
                body = {"prompt": "Once upon a time " * 60, "max_tokens": 20, "temperature": 0, "stream": True}
                return await asyncio.gather(*(target.completion(body) for _ in range(3)))

            self.assertTrue(all(a.done for a in asyncio.run(some())))
        events = json.loads(trace.read_text())
        spans = [e for e in events if e["ph"] == "X"]
        names = {e["name"] for e in spans}
        self.assertLessEqual({"request", "read", "queue", "prefill", "decode", "detokenise", "write", "step"}, names)
        requests = [e for e in spans if e["name"] == "request"]
        self.assertEqual(len(requests), 3)
        slack = 1.0  # times are written in tenths of a microsecond
        for request in requests:
            mine = [e for e in spans if e["tid"] == request["tid"]]
            begin, end = request["ts"], request["ts"] + request["dur"]
            for e in mine:
                self.assertGreaterEqual(e["ts"], begin - slack, e)
                self.assertLessEqual(e["ts"] + e["dur"], end + slack, e)
            tokens = sum(e["args"]["tokens"] for e in mine if e["name"] == "prefill")
            self.assertEqual(tokens + request["args"]["cached_tokens"], request["args"]["prompt_tokens"])
            steps = [e for e in mine if e["name"] in ("prefill", "decode")]
            self.assertEqual(sum(1 + e["args"]["kept"] for e in steps if e["name"] == "decode") + 1,
                             request["args"]["completion_tokens"])


class Admin(FolderCase):
    def test_state(self):
        with Server("--no-log", "--admin-key", "root") as server:
            self.assertEqual(server.get("/admin")[0], 200)
            self.assertEqual(server.get("/admin/state")[0], 401)
            self.assertEqual(server.post("/v1/completions", ASK)[0], 200, "an admin's key closes nothing")
            status, _, data = server.get("/admin/state", bearer("root"))
            self.assertEqual(status, 200)
            state = json.loads(data)
            model = state["models"][0]
            self.assertEqual((model["state"], model["stats"]["generated_tokens"]), ("ready", ASK["max_tokens"]))
            per_layer = {sum(row) for row in model["experts"]}
            self.assertTrue(model["experts"] and min(per_layer) > 0, "experts are counted")
            anonymous = next(k for k in state["keys"] if k["name"] == "anonymous")
            self.assertEqual(anonymous["usage"][0]["completion_tokens"], ASK["max_tokens"])
        with Server("--no-log", "--api-key", "k") as server:
            for path in ("/admin", "/admin/state"):
                self.assertEqual(server.get(path, bearer("k"))[0], 404, "without an admin's key there is none")


class Dashboard(unittest.TestCase):
    def test_its_metrics_are_there(self):
        text = (SOURCE / "configs/serve/grafana.json").read_text() + (SOURCE / "docs/operations.md").read_text()
        named = {re.sub("_bucket$", "", n) for n in re.findall(r"fathom:[a-z0-9_]*[a-z0-9]", text)}
        self.assertGreater(len(named), 25)
        panels = json.loads((SOURCE / "configs/serve/grafana.json").read_text())["panels"]
        queries = [target["expr"] for panel in panels for target in panel.get("targets", [])]
        self.assertGreater(len(queries), 30)
        with tempfile.TemporaryDirectory() as folder:
            with Server("--no-log", "--api-key", "k", "--usage-db", pathlib.Path(folder) / "usage.db") as server:
                server.post("/v1/completions", ASK, bearer("k"))
                metrics = server.get("/metrics")[2].decode()
        self.assertEqual(named - set(re.findall(r"# TYPE (fathom:\S+)", metrics)), set())
        for query in queries:  # each metric has a sample with the labels that are asked of it or summed by
            labels = re.findall(r"(\w+)(?:=~|!=|=)\"", query) + [n for by in re.findall(r"by \((.*?)\)", query) for n in by.split(", ")]
            for name in re.findall(r"(?:fathom:|process_)\w+", query):
                samples = [line for line in metrics.splitlines() if re.match(name + r"[ {]", line)]
                self.assertTrue(any(all(f'{label}="' in line for label in labels) for line in samples), (query, samples))

    def test_it_is_what_its_program_writes(self):
        written = subprocess.run([sys.executable, SOURCE / "tools/make_grafana.py"], capture_output=True, check=True).stdout
        self.assertEqual((SOURCE / "configs/serve/grafana.json").read_bytes(), written)

    @unittest.skipUnless(shutil.which("systemd-analyze"), "no systemd-analyze")
    def test_systemd_understands_the_unit(self):
        with tempfile.TemporaryDirectory() as folder:
            unit = pathlib.Path(folder) / "fathom.service"
            text = (SOURCE / "configs/serve/fathom.service").read_text()
            unit.write_text(text.replace("/usr/local/bin/fathom", str(BINARY)))
            ended = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, timeout=60)
        self.assertEqual((ended.returncode, ended.stderr), (0, ""))

    def test_the_example_of_a_configuration_is_read(self):
        ended = subprocess.run([BINARY, "serve", "--config", SOURCE / "configs/serve/server.toml"], capture_output=True, text=True,
                               timeout=60)
        self.assertEqual(ended.returncode, 1)
        self.assertIn("/etc/fathom/keys.toml", ended.stderr, "all of it is understood, up to the file of keys")
        ended = subprocess.run([BINARY, "serve", MODEL, "--ctx-size", "99999999", "--api-key-file", SOURCE / "configs/serve/keys.toml"],
                               capture_output=True, text=True, timeout=60)
        self.assertIn("ctx-size", ended.stderr, "the keys are read before the model")


class Restart(FolderCase):
    def test_clients_that_retry_get_their_answers(self):
        """Under load the server is told to stop, its answers are drained, a new one takes the port; nobody loses one."""
        port = free_port()
        command = [str(BINARY), "serve", str(MODEL), "--port", str(port), "--no-log", "--batch-invariant"]
        expected, problems, done = {}, [], threading.Event()
        answers, answered_after = [], []
        restarted = threading.Event()

        def client(number):
            server = Server()
            server.port = port
            seed = 0
            while not done.is_set():
                seed += 1
                body = {**ASK, "max_tokens": 24, "temperature": 1, "seed": number * 1000 + seed % 5}
                for attempt in range(400):
                    try:
                        status, answer = server.post("/v1/completions", body)
                    except (OSError, ValueError) as error:  # refused or closed without an answer: nothing was lost
                        status, answer = 0, str(error)
                    except Exception as error:
                        status, answer = 0, repr(error)
                    if status == 200:
                        break
                    if status not in (0, 429, 503):
                        problems.append((status, answer))
                        return
                    time.sleep(0.05)
                else:
                    problems.append("no answer after 400 attempts")
                    return
                text = answer["choices"][0]["text"]
                if answer["choices"][0]["finish_reason"] != "length" and len(text) == 0:
                    problems.append(answer)
                if expected.setdefault(body["seed"], text) != text:
                    problems.append((body["seed"], expected[body["seed"]], text))
                answers.append(text)
                if restarted.is_set():
                    answered_after.append(number)

        def start():
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            server = Server()
            server.port = port

            def ready():
                try:
                    return server.get("/health")[0] == 200
                except Exception:
                    return False

            until(ready, "the server is ready", 120)
            return process

        process = start()
        clients = [threading.Thread(target=client, args=(i,)) for i in range(6)]
        try:
            for c in clients:
                c.start()
            until(lambda: len(answers) > 12, "some answers", 60)
            for _ in range(2):
                process.send_signal(signal.SIGTERM)
                self.assertEqual(process.wait(60), 0)
                process = start()
            restarted.set()
            until(lambda: set(answered_after) == set(range(6)) or problems, "every client has answers again", 60)
        finally:
            done.set()
            for c in clients:
                c.join()
            process.send_signal(signal.SIGTERM)
            process.wait(60)
        self.assertEqual(problems, [])


if __name__ == "__main__":
    result = unittest.main(verbosity=2, exit=False).result
    sys.exit(0 if result.wasSuccessful() and result.testsRun else 1)
