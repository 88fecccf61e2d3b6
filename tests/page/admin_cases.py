"""The page of operations, /admin: before a server of canned figures (a busy one with several models), and before the program."""

import http.server
import json
import math
import re
import threading
import time
import urllib.request

from mock_server import ROOT, TYPES, page_policy
from page_case import PageTest
from served_cases import Served

KEY = "admin-key-of-the-test"


def load(layers, experts):
    """Tokens by layer and expert; one expert of a layer is far above its share, one is never chosen."""
    return [[0 if e == 3 else int(900 * (1.1 + math.sin(e * (layer + 2) * 0.7)) * (4 if e == (layer * 5) % experts else 1))
             for e in range(experts)] for layer in range(layers)]


def canned(n):
    """The state at the n-th look."""
    def stats(scale):
        return {"running": 12, "waiting": 3 * scale, "blocks": 4096, "blocks_used": 1733, "blocks_cached": 911, "steps": 40000 + 80 * n,
                "step_seconds": 3111.5 + n, "rows": 1900000 + 1200 * n, "prompt_tokens": 81234567, "generated_tokens": 12345678 + 700 * n * n,
                "prefix_queries": 91000000, "prefix_hits": 51260000, "preemptions": 17, "drafted": 8123456, "accepted": 6912345,
                "finished": [51234, 8123, 211, 2]}

    model = {"error": "", "pinned": False, "waiting": 0, "loads": 1, "max_running": 64, "max_context": 16384}
    models = [
        {**model, "names": ["deepseek-chat", "deepseek-v3"], "state": "ready", "bytes": 21 * 2**30, "cache_bytes": 3 * 2**30,
         "stats": stats(1), "experts": load(26, 64)},
        {**model, "names": ["<b>fathom</b>-16m"], "state": "loading", "bytes": 0, "waiting": 2},
        {**model, "names": ["broken"], "state": "failed", "bytes": 0, "error": "no *.safetensors file in /srv/models/broken"},
    ]
    used = {"model": "deepseek-chat", "requests": 5123, "errors": 4, "prompt_tokens": 7123456, "cached_tokens": 4123456,
            "completion_tokens": 912345}
    key = {"running": 2, "refused": 0, "requests_per_minute": 0, "tokens_per_minute": 0, "concurrent": 0, "requests_left": 0, "tokens_left": 0}
    keys = [{**key, "name": "alice", "requests_per_minute": 60, "tokens_per_minute": 200000, "concurrent": 8, "requests_left": 41,
             "tokens_left": 155123, "refused": 12, "usage": [used, {**used, "model": "fathom-16m", "requests": 77}]},
            {**key, "name": "bob", "usage": []}]
    return {"version": "0.1.0", "uptime": 3 * 86400 + 7200 + 2.0 * n, "draining": False, "resident_bytes": 24 * 2**30,
            "memory_limit": 32 * 2**30, "models": models, "keys": keys,
            "accounting": {"kept": True, "up": True, "failures": 0, "error": ""}}


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        name = "admin.html" if self.path == "/admin" else self.path.lstrip("/")
        status, kind, data = 404, "text/plain", b""
        if self.path == "/admin/state":
            kind = "application/json"
            if self.headers.get("Authorization") != f"Bearer {KEY}":
                status, data = 401, b"{}"
            else:
                self.server.looks += 1
                status, data = self.server.status, json.dumps(self.server.state(self.server.looks)).encode()
        elif (ROOT / "web" / name).is_file():
            status, kind, data = 200, TYPES[(ROOT / "web" / name).suffix], (ROOT / "web" / name).read_bytes()
        self.send_response(status)
        for header in (("Content-Type", kind), ("Content-Length", str(len(data))), ("Content-Security-Policy", page_policy())):
            self.send_header(*header)
        self.end_headers()
        self.wfile.write(data)


class AdminCase(PageTest):
    def open(self, url):
        self.page.call("Page.navigate", {"url": url + "admin"})
        self.page.until("document.readyState === 'complete' && document.querySelector('#gate:not([hidden])')", what="the key is asked for")

    def enter(self, key):
        self.page.fill("#key", key)
        self.page.key("Enter")


class Admin(AdminCase):
    def setUp(self):
        self.mock = None
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.looks, self.server.status, self.server.state = 0, 200, canned
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.addCleanup(self.server.server_close)
        self.addCleanup(self.server.shutdown)
        self.page = self.browser.page()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/"
        self.expected_errors = ("401",)
        self.open(self.url)

    def show(self, looks=2):
        self.enter(KEY)
        self.page.until("document.querySelectorAll('#models section').length === 3", what="the models are shown")
        self.page.until(f"document.querySelectorAll('.spark path').length > 0 || {looks} < 3", 12, "speeds are drawn")

    def test_only_with_the_key(self):
        self.enter("wrong")
        self.page.until("document.getElementById('wrong').textContent !== ''", what="the wrong key is named")
        self.shot("admin-gate")
        self.assertFalse(self.page.shown("#board"))
        self.show()
        self.assertFalse(self.page.shown("#gate"))
        self.page.call("Page.reload")
        self.page.until("document.querySelectorAll('#models section').length === 3", what="the tab remembers the key")
        self.press("Forget the key")
        self.assertTrue(self.page.shown("#gate"))
        self.page.call("Page.reload")
        self.page.until("document.querySelector('#gate:not([hidden])')", what="the key is forgotten")

    def test_figures(self):
        self.show(looks=3)
        text = self.page.text("#models section")
        for words in ("deepseek-chat", "ready", "21.0 GiB", "42.3%", "56.3%", "85.1%", "of 64"):
            self.assertIn(words, text)
        self.assertNotEqual(self.page.js("[...document.querySelectorAll('.tiles dt')].find(e => e.textContent === 'Tokens/s')"
                                         ".nextSibling.textContent"), "0.0")
        self.assertEqual(self.page.number("#models b"), 0, "names are text")
        self.assertIn("no *.safetensors file", self.page.text("#models"))
        self.assertIn("2 requests wait for it", self.page.text("#models"))
        self.assertEqual(self.page.js("[document.querySelector('canvas').width, document.querySelector('canvas').height]"), [64, 26])
        # An expert that is never chosen and one that is chosen far too often look different from all others.
        pixels = self.page.js("(d => [3, 0, 20].map(x => [...d.slice(4 * x, 4 * x + 4)].join()))"
                              "(document.querySelector('canvas').getContext('2d').getImageData(0, 0, 64, 1).data)")
        self.assertEqual(len(set(pixels)), 3)
        row = self.page.text("#keys tbody tr")
        for words in ("alice", "2 of 8", "5,200", "41 of 60", "155,123 of 200,000", "12"):
            self.assertIn(words, row)
        self.shot("admin-light")
        self.page.dark(True)
        time.sleep(2.2)
        self.shot("admin-dark")
        self.page.js("scrollTo(0, document.body.scrollHeight)")
        self.shot("admin-dark-end")

    def test_phone(self):
        self.page.size(390, 844, mobile=True)
        self.show(looks=3)
        self.assertEqual(self.page.js("[innerWidth, document.scrollingElement.scrollWidth]"), [390, 390])
        self.shot("admin-phone")
        self.page.js("document.querySelector('.heat').scrollIntoView()")
        self.shot("admin-phone-experts")
        self.page.js("document.getElementById('keys').scrollIntoView()")
        self.shot("admin-phone-keys")

    def test_a_server_that_has_gone(self):
        self.expected_errors = ("401", "500", "Internal Server Error")
        self.show()
        self.server.status = 500
        self.page.until("!document.getElementById('trouble').hidden", 8, "that it does not answer is said")
        self.assertTrue(self.page.shown("#models"), "what was known stays")
        self.server.status = 200
        self.page.until("document.getElementById('trouble').hidden", 8, "and it goes on by itself")


class ServedAdmin(AdminCase, Served):
    """The program itself."""

    options = ("--admin-key", KEY, "--api-key", "k1")
    test_a_story = test_files_are_those_of_the_source = None

    def setUp(self):
        self.mock = None
        self.page = self.browser.page()
        self.url = self.served
        self.expected_errors = ("401",)
        self.open(self.url)

    def test_under_load(self):
        stop = threading.Event()

        def ask():
            while not stop.is_set():
                body = json.dumps({"prompt": "Once upon a time there was a little fox", "max_tokens": 64, "temperature": 0.8}).encode()
                request = urllib.request.Request(self.url + "v1/completions", body, {"Authorization": "Bearer k1",
                                                                                     "Content-Type": "application/json"})
                urllib.request.urlopen(request).read()

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for t in threads:
            t.start()
        try:
            self.enter("k1")
            self.page.until("document.getElementById('wrong').textContent !== ''", what="a key that is no admin's is refused")
            self.enter(KEY)
            self.page.until("document.querySelectorAll('.spark path').length > 0", 30, "speeds are drawn")
            time.sleep(8)
            self.shot("admin-served")
            self.assertEqual(self.page.number(".heat canvas"), 1)
            self.assertIn("api-key-1", self.page.text("#keys"))
            written = "[...document.querySelectorAll('.tiles dt')].find(e => e.textContent === 'Written').nextSibling.textContent"
            self.assertGreater(int(re.sub(r"\D", "", self.page.js(written))), 64)
        finally:
            stop.set()
            for t in threads:
                t.join()
