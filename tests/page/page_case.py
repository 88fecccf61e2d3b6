"""What every test of the page stands on: a page before a server, a hand for its controls, and what holds of all of them."""

import json
import os
import pathlib
import time
import unittest

import browser
from mock_server import Mock

SHOTS = os.environ.get("FATHOM_PAGE_SHOTS")
LAST = ".message.assistant:last-child"
IDLE = "!document.querySelector('#stop:not([hidden])') && document.querySelector('#thread > *')"


class PageTest(unittest.TestCase):
    mock_options = {}

    @classmethod
    def setUpClass(cls):
        cls.browser = browser.Browser()

    @classmethod
    def tearDownClass(cls):
        cls.browser.close()

    def setUp(self):
        self.mock = Mock(**self.mock_options)
        self.page = self.browser.page()
        self.url = self.mock.url
        self.expected_errors = ()
        self.begin()

    def begin(self):
        self.page.open(self.url)
        self.page.until("document.getElementById('model').options.length > 0", what="the models are read")

    def tearDown(self):
        try:
            time.sleep(0.05)
            self.page.js("1")  # what is still in the pipe
            errors = [e for e in self.page.errors if not any(known in e for known in self.expected_errors)]
            self.assertEqual(errors, [], "the console has errors")
            away = [r for r in self.page.requests if not r.startswith((self.url, "data:", "blob:" + self.url))]
            self.assertEqual(away, [], "requests left the server")
        finally:
            self.page.close()
            if self.mock:
                self.mock.close()

    def shot(self, name):
        if SHOTS:
            time.sleep(0.35)
            self.page.screenshot(pathlib.Path(SHOTS) / f"{name}.png")

    def write(self, text):
        self.page.fill("#composer-text", text)

    def send(self, text):
        self.write(text)
        self.page.key("Enter")

    def idle(self, seconds=30):
        self.page.until(IDLE, seconds, "the answer is complete")

    def asked(self, before):
        self.page.until(f"document.querySelectorAll('.message, .passage').length > {before}", what="the question is taken")
        self.idle()

    def ask(self, text):
        before = self.page.number(".message, .passage")
        self.send(text)
        self.asked(before)

    def bodies(self):
        return [body for _, body in self.mock.requests]

    def choose_model(self, name):
        self.page.js(f"(() => {{ const m = document.getElementById('model'); m.value = {json.dumps(name)}; "
                     "m.dispatchEvent(new Event('change')); })()")

    def press(self, words, within="body"):
        """The visible button with this text or label."""
        found = (f"[...document.querySelectorAll({json.dumps(within + ' button')})].find(b => b.checkVisibility() && "
                 f"(b.innerText.trim() === {json.dumps(words)} || b.getAttribute('aria-label') === {json.dumps(words)}))")
        self.page.until(f"Boolean({found})", what=f"a button {words!r} in {within}")
        self.page.js(f"{found}.dataset.pressed = 'now'")
        try:
            self.page.click("[data-pressed]")
        finally:
            self.page.js("document.querySelectorAll('[data-pressed]').forEach(e => delete e.dataset.pressed)")
