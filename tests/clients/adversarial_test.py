"""Clients that are broken or hostile, over raw sockets: malformed HTTP, slow ones, huge ones, thousands at once. After
each the server still answers, holds nothing and has not grown. Standard library only.
"""
import asyncio
import contextlib
import re
import resource
import socket
import struct
import sys
import time
import unittest

from harness import Server
from http_stream import Target

COMPLETION = {"prompt": "Once upon a time", "max_tokens": 8, "temperature": 0}


def receive_all(s, seconds=30):
    """What comes until the other side closes; raises TimeoutError after so many seconds."""
    data, deadline = b"", time.monotonic() + seconds
    while True:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"not closed after {seconds} s, got {data[:200]}")
        s.settimeout(left)
        try:
            piece = s.recv(1 << 16)
        except ConnectionResetError:
            return data
        if not piece:
            return data
        data += piece


class Raw(unittest.TestCase):
    OPTIONS = ()

    @classmethod
    def setUpClass(cls):
        cls.server = cls.enterClassContext(Server("--no-log", *cls.OPTIONS))

    def connect(self):
        s = socket.create_connection(("127.0.0.1", self.server.port), timeout=30)
        self.addCleanup(s.close)
        return s

    def tearDown(self):
        """Whatever a test did: the server answers and nothing runs."""
        status, answer = self.server.post("/v1/completions", COMPLETION)
        self.assertEqual((status, answer["usage"]["completion_tokens"]), (200, 8))
        self.server.wait_idle()

    def test_malformed_http(self):
        body = b'{"prompt": "x"}'
        post = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\n"
        cases = {
            b"\r\n\r\n\r\n\r\nnonsense\r\n\r\n": (400,),
            b"GET\r\n\r\n": (400,),
            b"GET / HTTP/9.9\r\n\r\n": (400, 505),
            b"GET / HTTP/1.1\r\nBroken header\r\n\r\n": (400,),
            b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: " + b"b" * 200000 + b"\r\n\r\n": (400, 431),
            b"GET /" + b"a" * 200000 + b" HTTP/1.1\r\n\r\n": (400, 414, 431),
            b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 50000 + b"\r\n": (400, 431),
            post + b"Content-Length: -5\r\n\r\n" + body: (400,),
            post + b"Content-Length: five\r\n\r\n" + body: (400,),
            post + b"Content-Length: 99999999999999999999\r\n\r\n": (400, 413),
            post + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n" + body: (400,),
            post + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n": (400,),
            post + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n": (400,),
            post + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n": (400, 413),
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03": (400,),  # a TLS greeting
            bytes(range(256)) * 16: (400,),
        }
        for sent, statuses in cases.items():
            with self.subTest(sent=sent[:60]):
                s = self.connect()
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    s.sendall(sent)
                    s.shutdown(socket.SHUT_WR)
                answer = receive_all(s)
                if answer:  # a connection closed without a word is as good, while it is still undelivered
                    self.assertRegex(answer[:12], rb"^HTTP/1\.1 \d\d\d")
                    self.assertIn(int(answer[9:12]), statuses)

    def test_split_into_single_bytes(self):
        body = b'{"prompt": "Once upon a time", "max_tokens": 2}'
        s = self.connect()
        for byte in b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body):
            s.send(bytes([byte]))
        s.settimeout(30)
        self.assertEqual(s.recv(12), b"HTTP/1.1 200")

    def test_pipelined_requests_are_answered_in_order(self):
        s = self.connect()
        s.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n" * 3 +
                  b"GET /nowhere HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        self.assertEqual(re.findall(rb"HTTP/1\.1 (\d+)", receive_all(s)), [b"200", b"200", b"200", b"404"])

    def test_deep_json(self):
        for body in (b"[" * 10000 + b"]" * 10000, b'{"a":' * 10000 + b"1" + b"}" * 10000,
                     b'{"prompt": ' + b"[" * 10000 + b"]" * 10000 + b"}",
                     b'{"x": ' + b"[" * 1000000, b"[" * 20_000_000):
            with self.subTest(begins=body[:20], bytes=len(body)):
                status, answer = self.server.post("/v1/completions", body)
                self.assertEqual((status, answer["error"]["type"]), (400, "invalid_request_error"))

    def test_huge_bodies(self):
        """More than 32 MiB is refused; up to there it is read, and its memory comes back."""
        status, headers, _ = self.server.call("POST", "/v1/completions", b'{"prompt": "' + b"a " * (1 << 20) + b'"}')
        self.assertEqual(status, 400)  # longer than the context
        before = self.server.resident_bytes()
        for _ in range(3):
            s = self.connect()
            s.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (40 << 20))
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                s.sendall(b" " * (1 << 20))
            self.assertIn(b" 413 ", receive_all(s)[:20])
        for _ in range(3):
            status, answer = self.server.post("/v1/completions", b'{"prompt": "' + b"a" * (31 << 20) + b'"}')
            self.assertEqual(status, 400)
        self.assertLess(self.server.resident_bytes() - before, 400 << 20)

    def test_chunked_body_without_end(self):
        s = self.connect()
        s.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        chunk = b"100000\r\n" + b" " * (1 << 20) + b"\r\n"
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for _ in range(40):
                s.sendall(chunk)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.assertIn(b" 413 ", receive_all(s)[:20])

    def test_invalid_text(self):
        for body in (b'{"prompt": "\xff\xfe"}', b'{"prompt": "\xc0\x80"}', b'{"prompt": "\xed\xa0\x80"}',
                     b'{"prompt": "\\ud800"}', b'{"prompt": "a\x00b"}', b'\xef\xbb\xbf\xef\xbb\xbf{}'):
            with self.subTest(body=body):
                self.assertEqual(self.server.post("/v1/completions", body)[0], 400)

    def test_slow_head_is_closed(self):
        """A head that never ends is cut after 10 s (the option's default), while others are served."""
        s = self.connect()
        s.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\n")
        start, closed = time.monotonic(), False
        while time.monotonic() - start < 30 and not closed:
            self.assertEqual(self.server.get("/health")[0], 200)
            time.sleep(0.5)
            try:
                s.sendall(b"X: y\r\n")
                s.settimeout(0.01)
                closed = s.recv(100) == b"" or True
            except TimeoutError:
                continue
            except OSError:
                closed = True
        self.assertTrue(closed)
        self.assertLess(time.monotonic() - start, 20)

    def test_disconnect_frees_the_slot(self):
        async def drop(after):
            target = Target(self.server.url)
            return await target.completion({**COMPLETION, "max_tokens": 900, "ignore_eos": True, "stream": True},
                                           drop_after=after)

        for after in (0, 1, 5):
            with self.subTest(events=after):
                asyncio.run(drop(after))
                start = time.monotonic()
                self.server.wait_idle(10)
                self.assertLess(time.monotonic() - start, 5)

    def test_disconnect_of_a_whole_answer_frees_the_slot(self):
        s = self.connect()
        body = b'{"prompt": "Once", "max_tokens": 900, "ignore_eos": true}'
        s.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        deadline = time.monotonic() + 10
        while self.server.metrics()["fathom:num_requests_running"] == 0 and time.monotonic() < deadline:
            time.sleep(0.01)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset, not a goodbye
        s.close()
        self.server.wait_idle(5)

    def test_client_that_does_not_read(self):
        """An answer that nobody takes does not hold the engine: the stream waits in the server, bounded."""
        s = self.connect()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        body = b'{"prompt": "Once", "max_tokens": 900, "ignore_eos": true, "stream": true, "logprobs": 20}'
        s.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        status, _ = self.server.post("/v1/completions", COMPLETION)
        self.assertEqual(status, 200)
        self.server.wait_idle(60)


class Crowd(unittest.TestCase):
    def test_thousands_of_requests(self):
        """Some are served, the rest is told to come back; every connection gets an answer."""
        async def crowd(target, count):
            gate = asyncio.Semaphore(900)  # descriptors

            async def one():
                async with gate:
                    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                        return await target.completion(COMPLETION, timeout=300)
            return await asyncio.gather(*(one() for _ in range(count)))

        with Server("--no-log", "--max-running", "8", "--max-waiting", "50") as server:
            answers = asyncio.run(crowd(Target(server.url), 3000))
            answered = [a for a in answers if a]
            self.assertEqual(len(answered), 3000)
            statuses = {status: sum(a.status == status for a in answered) for status in {a.status for a in answered}}
            self.assertLessEqual(set(statuses), {200, 429, 503})
            self.assertGreater(statuses.get(200, 0), 50)
            self.assertGreater(statuses.get(429, 0) + statuses.get(503, 0), 0)
            for answer in answered:
                if answer.status != 200:
                    self.assertGreaterEqual(int(answer.headers["retry-after"]), 1)
                    self.assertIn("error", answer.json())
            texts = {a.json()["choices"][0]["text"] for a in answered if a.status == 200}
            self.assertEqual(len(texts), 1)
            server.wait_idle()
            print(f"3000 requests at once: {statuses}", flush=True)

    def test_more_connections_than_allowed(self):
        with Server("--no-log", "--max-connections", "20") as server:
            held = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(60)]
            time.sleep(0.5)
            for s in held:
                s.close()
            deadline = time.monotonic() + 10
            status = 0
            while status != 200 and time.monotonic() < deadline:
                with contextlib.suppress(OSError):
                    status = server.get("/health")[0]
            self.assertEqual(status, 200)

    def test_a_thousand_idle_streams(self):
        """1,000 streams that are open and have nothing to say (they wait behind the one that runs): less than 200 MB."""
        async def hold(server, count):
            target = Target(server.url)
            long = {"prompt": "Once", "max_tokens": 900, "ignore_eos": True, "stream": True}
            before = server.resident_bytes()
            first = asyncio.create_task(target.completion({**long, "n": 1}))
            await asyncio.sleep(0.2)
            tasks = [asyncio.create_task(target.completion({**long, "prompt": f"Story {i}"})) for i in range(count)]
            deadline = time.monotonic() + 60
            waiting = 0
            while waiting < count * 9 // 10 and time.monotonic() < deadline:
                await asyncio.sleep(0.2)
                waiting = await asyncio.to_thread(lambda: server.metrics()["fathom:num_requests_waiting"])
            grown = server.resident_bytes() - before
            for task in [first, *tasks]:
                task.cancel()
            await asyncio.gather(first, *tasks, return_exceptions=True)
            return waiting, grown

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(8192, hard), hard))
        with Server("--no-log", "--max-running", "1", "--max-waiting", "2000") as server:
            waiting, grown = asyncio.run(hold(server, 1000))
            self.assertGreaterEqual(waiting, 900)
            print(f"{waiting:.0f} waiting streams: {grown / 1e6:.1f} MB", flush=True)
            self.assertLess(grown, 200e6)
            server.wait_idle(60)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


if __name__ == "__main__":
    result = unittest.main(verbosity=2, exit=False).result
    sys.exit(0 if result.wasSuccessful() and result.testsRun else 1)
