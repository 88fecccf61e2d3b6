"""fathom serve as whoever runs it sees it: start, configuration, access log, TLS, and the end by a signal. Standard library
only.
"""
import asyncio
import json
import pathlib
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.request

from harness import BINARY, MODEL, Server, free_port
from http_stream import Target

LONG = {"prompt": "Once upon a time", "max_tokens": 400, "ignore_eos": True, "temperature": 0, "stream": True}


class Running(unittest.TestCase):
    def test_drain_lets_answers_finish(self):
        async def stream_and_stop(server):
            target = Target(server.url)
            running = asyncio.create_task(target.completion({**LONG, "max_tokens": 800}))
            while await asyncio.to_thread(lambda: server.metrics()["fathom:num_requests_running"]) == 0:
                await asyncio.sleep(0.01)
            server.process.send_signal(signal.SIGTERM)
            await asyncio.sleep(0.2)
            late = await asyncio.gather(target.completion(LONG), return_exceptions=True)
            return await running, late[0]

        with Server("--no-log") as server:
            answer, late = asyncio.run(stream_and_stop(server))
            self.assertTrue(answer.done)
            self.assertEqual(answer.choices()[-1][1]["finish_reason"], "length")
            if not isinstance(late, OSError):  # refused, or told so
                self.assertEqual(late.status, 503)
                self.assertIn("retry-after", late.headers)
            self.assertEqual(server.process.wait(30), 0)

    def test_drain_has_a_limit(self):
        async def stream_and_stop(server):
            target = Target(server.url)
            running = [asyncio.create_task(target.completion({**LONG, "max_tokens": 1000})) for _ in range(40)]
            while await asyncio.to_thread(lambda: server.metrics()["fathom:num_requests_running"]) == 0:
                await asyncio.sleep(0.01)
            start = time.monotonic()
            server.process.send_signal(signal.SIGTERM)
            await asyncio.gather(*running, return_exceptions=True)
            return await asyncio.to_thread(server.process.wait, 30), time.monotonic() - start

        with Server("--no-log", "--drain-seconds", "0") as server:
            code, seconds = asyncio.run(stream_and_stop(server))
            self.assertEqual(code, 0)
            self.assertLess(seconds, 20)

    def test_access_log(self):
        with tempfile.TemporaryDirectory() as folder:
            log = pathlib.Path(folder) / "access.jsonl"
            with Server("--log-file", log, "--api-key", "secret-of-the-test") as server:
                key = {"Authorization": "Bearer secret-of-the-test"}
                server.post("/v1/completions", {"prompt": "Private words", "max_tokens": 3}, key)
                server.post("/v1/completions", {"prompt": "Private words", "temperature": 9}, key)
                server.get("/v1/models", {"Authorization": "Bearer wrong-secret"})
            text = log.read_text()
            entries = [json.loads(line) for line in text.splitlines()]
            self.assertEqual(sorted(e["status"] for e in entries if e["path"].startswith("/v1")), [200, 400, 401])
            for secret in ("Private", "secret"):
                self.assertNotIn(secret, text)

    def test_configuration_file(self):
        with tempfile.TemporaryDirectory() as folder:
            config = pathlib.Path(folder) / "server.toml"
            config.write_text('served-model-name = "from-file"\napi-key = ["k1", "k2"]\nmax_running = 3\nno-log = true\n')
            with Server("--config", config) as server:
                for key in ("k1", "k2"):
                    status, _, data = server.get("/v1/models", {"Authorization": f"Bearer {key}"})
                    self.assertEqual((status, json.loads(data)["data"][0]["id"]), (200, "from-file"))
                self.assertEqual(server.get("/v1/models")[0], 401)
                self.assertEqual(server.metrics()["fathom:max_running_requests"], 3)
            config.write_text("no_such_option = 5\n")
            ended = subprocess.run([BINARY, "serve", MODEL, "--config", config], capture_output=True, text=True, timeout=60)
            self.assertNotEqual(ended.returncode, 0)
            self.assertIn("no_such_option", ended.stderr)

    def test_bad_starts_are_explained(self):
        with Server("--no-log") as server:
            cases = ((["--port", str(server.port)], str(server.port)), (["--ctx-size", "99999"], "max_position_embeddings"),
                     (["--tls-cert", "/nonexistent.pem", "--tls-key", "/nonexistent.pem"], "nonexistent"),
                     (["--template", "no-such"], "no-such"), (["--host", "no.such.host.invalid"], "no.such.host"))
            for options, word in cases:
                with self.subTest(options=options):
                    port = [] if "--port" in options else ["--port", str(free_port())]
                    ended = subprocess.run([BINARY, "serve", MODEL, *port, *options], capture_output=True, text=True,
                                           timeout=60)
                    self.assertNotIn(ended.returncode, (0, -6, -11))
                    self.assertIn(word, ended.stderr)

    @unittest.skipUnless(shutil.which("openssl"), "no openssl program to make a certificate with")
    def test_tls(self):
        with tempfile.TemporaryDirectory() as folder:
            cert, key = pathlib.Path(folder) / "cert.pem", pathlib.Path(folder) / "key.pem"
            subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                            "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2", "-keyout", key,
                            "-out", cert], check=True, capture_output=True)
            port = free_port()
            process = subprocess.Popen([BINARY, "serve", MODEL, "--port", str(port), "--tls-cert", cert, "--tls-key", key,
                                        "--no-log"], stdout=subprocess.DEVNULL)
            try:
                trusting = ssl.create_default_context(cafile=cert)
                deadline = time.monotonic() + 60
                while True:
                    try:
                        with urllib.request.urlopen(f"https://127.0.0.1:{port}/health", context=trusting) as answer:
                            self.assertEqual(answer.status, 200)
                        break
                    except urllib.error.URLError:
                        self.assertLess(time.monotonic(), deadline)
                        time.sleep(0.1)
                request = urllib.request.Request(f"https://127.0.0.1:{port}/v1/completions", method="POST",
                                                 data=json.dumps({"prompt": "Once", "max_tokens": 4}).encode())
                with urllib.request.urlopen(request, context=trusting) as answer:
                    self.assertEqual(json.load(answer)["usage"]["completion_tokens"], 4)
                with self.assertRaises((OSError, ssl.SSLError)):
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=10)
            finally:
                process.send_signal(signal.SIGTERM)
                self.assertEqual(process.wait(30), 0)


if __name__ == "__main__":
    result = unittest.main(verbosity=2, exit=False).result
    sys.exit(0 if result.wasSuccessful() and result.testsRun else 1)
