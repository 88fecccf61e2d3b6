"""The program itself, with the model that ships."""

import gzip
import json
import os
import pathlib
import re
import subprocess
import urllib.error
import urllib.request

from browser import Failed
from mock_server import ROOT, TYPES, libraries, page_policy
from page_case import LAST, PageTest


class Served(PageTest):
    """The program itself, with the model that ships (and, for chat, a template that this model has not learned)."""

    options = ()

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.server = subprocess.Popen(
            [os.environ["FATHOM_BINARY"], "serve", os.environ["FATHOM_MODEL"], "--port", "0", "--no-log", *cls.options],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        cls.addClassCleanup(cls.stop)
        said = ""
        for line in cls.server.stdout:
            said += line
            if found := re.search(r"serving at (\S+) ", line):
                cls.served = found[1] + "/"
                return
        raise Failed(f"fathom serve ended: {said}")

    @classmethod
    def stop(cls):
        cls.server.terminate()
        cls.server.wait(60)
        cls.server.stdout.close()

    def setUp(self):
        self.mock = None
        self.page = self.browser.page()
        self.url = self.served
        self.expected_errors = ()
        self.begin()

    def test_files_are_those_of_the_source(self):
        names = [p.name for p in (ROOT / "web").iterdir()]
        self.assertGreater(len(names), 10)
        files = {**{n: ROOT / "web" / n for n in names}, **libraries()}
        for name, file in files.items():
            with urllib.request.urlopen(urllib.request.Request(self.url + name, headers={"Accept-Encoding": "gzip"})) as answer:
                data, headers = answer.read(), answer.headers
            if headers["Content-Encoding"] == "gzip":
                data = gzip.decompress(data)
            self.assertEqual(data, file.read_bytes(), name)
            self.assertEqual(headers["Content-Type"], TYPES[file.suffix], name)
            self.assertEqual(headers["Content-Security-Policy"], page_policy(), name)
            again = urllib.request.Request(self.url + name, headers={"If-None-Match": headers["ETag"]})
            with self.assertRaises(urllib.error.HTTPError) as caught:
                urllib.request.urlopen(again)
            caught.exception.close()
            self.assertEqual(caught.exception.code, 304, name)

    TEXT = "document.querySelector('.manuscript .text')?.textContent ?? ''"

    def test_a_story(self):
        if not self.page.shown("#mode"):  # a model with a chat template
            self.press("Let it continue a text instead", ".welcome")
        self.assertTrue(self.page.shown("#mode"))
        self.page.click("#panel-open")
        with open(pathlib.Path(os.environ["FATHOM_MODEL"], "generation_config.json")) as file:
            self.assertEqual(float(self.page.js("document.getElementById('set-temperature').placeholder")), json.load(file)["temperature"])
        self.page.fill("#set-seed", "7")
        self.page.fill("#set-max_tokens", "120")  # long enough for a rate to be shown
        opening = "The old clock struck twelve, and somebody knocked at the door."
        self.send(opening)
        self.page.until(f"({self.TEXT}).length > {len(opening)}", what="the first words")
        self.idle(60)
        text = self.page.js(self.TEXT)
        self.assertTrue(text.startswith(opening))
        self.assertGreater(len(text), len(opening) + 80)
        stats = self.page.text(".tools .stats")
        for words in (" tokens", "tokens/s", "first after", "prompt "):
            self.assertIn(words, stats)
        self.assertIn("of 2,048 tokens of context", self.page.text("#status"))
        self.press("Write this passage again", ".tools")
        self.idle(60)
        self.assertEqual(self.page.text(".tools .branches"), "2/2")
        self.assertEqual(self.page.js(self.TEXT), text, "the same seed, the same text")
        self.shot("served-story")
        self.page.fill("#set-max_tokens", "900")
        self.page.js("document.getElementById('composer-text').focus()")
        self.page.key("Enter")
        self.page.until(f"({self.TEXT}).length > {len(text)} + 40", what="it goes on")
        self.page.key("Escape")
        self.idle(5)
        self.assertIn("stopped", self.page.text(".tools .stats"))
        self.assertIn("cached", self.page.text(".tools .stats") + self.after_a_longer_prompt())

    def after_a_longer_prompt(self):
        """The stats of a passage whose prompt the server has read before."""
        self.page.fill("#set-max_tokens", "5")
        before = self.page.number(".passage")
        self.page.js("document.getElementById('composer-text').focus()")
        self.page.key("Enter")
        self.asked(before)
        return self.page.text(".tools .stats")


class ServedChat(Served):
    options = ("--template", "v3", "--api-key", "k1")
    test_a_story = test_files_are_those_of_the_source = None

    def begin(self):
        self.expected_errors = ("401", "400")
        self.page.open(self.url)
        self.page.until("document.getElementById('key-dialog').open", what="the page asks for the key")
        self.page.fill("#key", "k1")
        self.page.key("Enter")
        self.page.until("document.getElementById('model').options.length > 0", what="the models are read")

    def test_chat(self):
        self.assertFalse(self.page.shown("#mode"))
        self.page.click("#panel-open")
        self.page.fill("#set-max_tokens", "400")  # long enough for a rate to be shown
        self.page.fill("#set-system", "Tell a story.")
        self.ask("Tell me a story about a brave fox.")
        self.assertEqual(self.page.number(".trouble"), 0, self.page.text(".trouble"))
        self.assertGreater(len(self.page.text(f"{LAST} .prose")), 20)
        self.assertIn("tokens/s", self.page.text(f"{LAST} .stats"))
        self.page.click("#new")
        self.ask("forest " * 4000)
        self.assertIn("longer than the model can read", self.page.text(".trouble"))
