"""The context cache on disk through restarts of fathom serve: what is found again, the same answers, and what damage, a
sudden end and a second server on the directory do. Standard library only.
"""
import pathlib
import signal
import subprocess
import tempfile
import unittest

from harness import BINARY, MODEL, Server, free_port

BLOCK = 64
STORY = " ".join(f"On day {n} the little girl gave her friend {n + 3} red balls and they went to the park." for n in range(24))


def ask(server, end, **fields):
    """A completion's (text, prompt tokens, tokens of it from the cache)."""
    status, answer = server.post("/v1/completions", {"prompt": STORY + end, "max_tokens": 24, "temperature": 0, **fields})
    assert status == 200, answer
    usage = answer["usage"]
    assert usage["prompt_cache_hit_tokens"] + usage["prompt_cache_miss_tokens"] == usage["prompt_tokens"]
    return answer["choices"][0]["text"], usage["prompt_tokens"], usage["prompt_cache_hit_tokens"]


def whole_blocks(tokens):
    return (tokens - 1) // BLOCK * BLOCK  # the last token is always computed


class ContextCache(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.cache = pathlib.Path(self.folder.name) / "cache"

    def server(self, *options):
        return Server("--no-log", "--disk-cache", self.cache, *options)

    def test_a_restart(self):
        with self.server() as server:
            text, tokens, hit = ask(server, " Then")
            self.assertGreater(tokens, 5 * BLOCK)
            self.assertEqual(hit, 0)
            again, _, hit = ask(server, " Then")
            self.assertEqual((again, hit), (text, whole_blocks(tokens)))
            self.assertEqual(server.metrics()["fathom:disk_cache_hits_total"], 0)
        with self.server() as server:
            again, _, hit = ask(server, " Then")
            self.assertEqual((again, hit), (text, whole_blocks(tokens)))
            metrics = server.metrics()
            self.assertEqual(metrics["fathom:disk_cache_hits_total"], whole_blocks(tokens))
            self.assertGreater(metrics["fathom:disk_cache_bytes"], 0)
            # Others' prompts are their own.
            _, _, hit = ask(server, " Then", cache_salt="another")
            self.assertEqual(hit, 0)
        # The same weights, other arithmetic: nothing of it is found.
        with self.server("--cache-dtype", "bf16") as server:
            self.assertEqual(ask(server, " Then")[2], 0)
        # And by the options of a file.
        config = pathlib.Path(self.folder.name) / "server.toml"
        config.write_text(f'no-log = true\ndisk-cache = "{self.cache}"\ndisk-cache-gib = 0.5\n')
        with Server("--config", config) as server:
            self.assertEqual(ask(server, " Then")[2], whole_blocks(tokens))
            self.assertEqual(server.metrics()["fathom:disk_cache_limit_bytes"], 0.5 * 2**30)

    def test_the_same_bits_with_the_cache_and_without(self):
        fields = {"logprobs": 3, "temperature": 0.8, "seed": 5}
        with Server("--no-log", "--batch-invariant") as server:
            text, _, hit = ask(server, " So", **fields)
            self.assertEqual(hit, 0)
        with self.server("--batch-invariant") as server:
            ask(server, " Then", **fields)
        with self.server("--batch-invariant") as server:
            again, tokens, hit = ask(server, " So", **fields)
            self.assertEqual(again, text)
            self.assertGreaterEqual(hit, whole_blocks(tokens) - BLOCK)

    def test_a_sudden_end_and_damage(self):
        with self.server() as server:
            text, tokens, _ = ask(server, " Then")
            ask(server, " But")
            server.process.send_signal(signal.SIGKILL)
            server.process.wait()
            server.process = None
            server.log.close()
        with self.server() as server:
            self.assertEqual(ask(server, " Then")[0], text)
        for file in self.cache.glob("blocks-*"):
            data = bytearray(file.read_bytes())
            data[len(data) // 2] ^= 64
            file.write_bytes(data)
        (self.cache / "index.sqlite-wal").write_bytes(b"no log" * 1000)
        with self.server() as server:
            again, _, hit = ask(server, " Then")
            self.assertEqual(again, text)
            self.assertLess(hit, tokens)
        (self.cache / "index.sqlite").write_bytes(b"no index" * 1000)
        with self.server() as server:
            self.assertEqual(ask(server, " Then")[0::2], (text, 0))
            self.assertIn("index was made anew", server.output())

    def test_a_directory_that_is_in_use_or_cannot_be(self):
        with self.server():
            ended = subprocess.run([BINARY, "serve", MODEL, "--port", str(free_port()), "--disk-cache", self.cache],
                                   capture_output=True, text=True, timeout=60)
            self.assertNotIn(ended.returncode, (0, -6, -11))
            self.assertIn("in use", ended.stderr)
            self.assertIn(str(self.cache), ended.stderr)
        file = pathlib.Path(self.folder.name) / "file"
        file.write_text("")
        with Server("--no-log", "--disk-cache", file / "below") as server:
            self.assertEqual(ask(server, " Then")[2], 0)
            self.assertEqual(server.metrics()["fathom:disk_cache_writable"], 0)
            self.assertIn("warning: disk cache", server.output())


if __name__ == "__main__":
    unittest.main(verbosity=2)
