"""Asking and being answered: messages, branches, completion mode, errors."""

import json
import pathlib
import tempfile
import time

from browser import CTRL, SHIFT
from mock_server import STORY, Mock
from page_case import LAST, PageTest


class Chat(PageTest):
    def test_send_and_stream(self):
        self.mock.pause = 0.02
        self.send("markdown please")
        self.page.until(f"document.querySelector('{LAST}')?.innerText.includes('Moon')", what="the first words")
        self.assertTrue(self.page.shown("#stop"), "Stop stands there while the answer streams")
        early = len(self.page.text(f"{LAST} .prose"))
        self.page.until(f"document.querySelector('{LAST} .prose').innerText.length > {early} + 100", what="more words")
        self.idle()
        self.assertTrue(self.page.shown("#send"))
        for selector, number in (("strong", 1), ("em", 1), ("td", 6), ("ol > li", 2), ("blockquote", 1), (".check", 2), ("img[alt=dot]", 1)):
            self.assertEqual(self.page.number(f"{LAST} .prose {selector}"), number, selector)
        stats = self.page.text(f"{LAST} .stats")
        for words in ("tokens/s", "first after", "prompt", "cached", "drafts 82 % accepted"):
            self.assertIn(words, stats)
        self.assertNotIn("≈", stats)
        body = self.bodies()[0]
        self.assertEqual(body["messages"], [{"role": "user", "content": "markdown please"}])
        self.assertEqual((body["model"], body["stream"], body["stream_options"]), ("mock-chat", True, {"include_usage": True}))
        self.assertNotIn("temperature", body, "what is not set is not sent")
        self.assertEqual(self.page.text("#title"), "markdown please")
        spoken = self.page.js("document.getElementById('announcer').textContent")
        self.assertIn("The answer is complete.", spoken)
        self.shot("desktop-light")

    def test_stop(self):
        self.send("slow")
        self.page.until(f"document.querySelector('{LAST} .prose')?.innerText.length > 30", what="some words")
        self.page.key("Escape")
        self.idle(3)
        words = self.page.text(f"{LAST} .prose")
        self.assertIn("Slowly", words)
        self.assertIn("stopped", self.page.text(f"{LAST} .stats"))
        deadline = time.monotonic() + 5
        while not self.mock.gone and time.monotonic() < deadline:
            time.sleep(0.02)
        self.assertEqual(self.mock.gone, 1, "the server sees that nobody listens any more")
        self.assertEqual(self.page.text(f"{LAST} .prose"), words)

    def test_regenerate_and_branches(self):
        self.ask("first question")
        self.assertEqual(self.page.number(".branches"), 0)
        self.press("Another answer", LAST)
        self.idle()
        self.assertEqual(self.page.text(f"{LAST} .branches"), "2/2")
        self.press("Previous version", LAST)
        self.assertEqual(self.page.text(f"{LAST} .branches"), "1/2")
        self.ask("second question")
        self.assertEqual([m["content"] for m in self.bodies()[-1]["messages"]],
                         ["first question", "You said: first question", "second question"])
        # Behind the other version of the first answer there is nothing yet.
        self.press("Next version", ".message.assistant")
        self.assertEqual(self.page.number(".message"), 2)
        self.press("Previous version", ".message.assistant")
        self.assertEqual(self.page.number(".message"), 4)

    def test_edit_makes_a_branch(self):
        self.ask("the first words")
        self.ask("a second question")
        self.press("Edit", ".message.user")
        self.page.until("document.activeElement.matches('.editor textarea')", what="the editor has the focus")
        self.page.fill(".editor textarea", "other words")
        self.page.key("Enter")
        self.idle()
        self.assertEqual(self.page.number(".message"), 2)
        self.assertEqual(self.page.text(".message.user .words"), "other words")
        self.assertEqual(self.bodies()[-1]["messages"], [{"role": "user", "content": "other words"}])
        self.assertEqual(self.page.text(".message.user .branches"), "2/2")
        self.press("Previous version", ".message.user")
        self.assertEqual(self.page.number(".message"), 4)
        self.assertEqual(self.page.text(".message.user .words"), "the first words")
        self.press("Edit", ".message.user")
        self.page.key("Escape")
        self.assertEqual(self.page.number(".editor"), 0)
        # An answer that is edited is a version of its own and is what the model is told it said.
        self.press("Edit", LAST)
        self.page.fill(".editor textarea", "My own **words**.")
        self.press("Keep as a new version")
        self.assertEqual(self.page.text(f"{LAST} .prose"), "My own words.")
        self.ask("third")
        self.assertEqual(self.bodies()[-1]["messages"][-2], {"role": "assistant", "content": "My own **words**."})

    def test_thinking_is_folded(self):
        self.mock.pause = 0.03
        self.send("think about it")
        self.page.until("document.querySelector('.thinking summary')?.innerText.startsWith('Thinking')", what="it says that it thinks")
        self.idle()
        self.assertRegex(self.page.text(".thinking summary"), r"^Thought for [\d.]+ s$")
        self.assertFalse(self.page.js("document.querySelector('.thinking').open"))
        self.assertEqual(self.page.text(f"{LAST} > .prose"), "Take route B.")
        self.page.click(".thinking summary")
        self.page.until("document.querySelector('.thinking strong')?.innerText === 'the shorter'", what="the thoughts are Markdown")
        self.page.until("document.querySelector('.thinking .katex')", what="with formulas")
        self.ask("and then")
        self.assertNotIn("reader wants", json.dumps(self.bodies()[-1]), "thoughts are not sent back")
        self.shot("thinking")

    def test_files_are_attached_as_text(self):
        with tempfile.TemporaryDirectory() as folder:
            good, bad = pathlib.Path(folder, "soundings.csv"), pathlib.Path(folder, "chart.bin")
            good.write_text("x,depth\n1,12\n")
            bad.write_bytes(b"\0\1\2")
            self.page.choose_file("#attach-file", good, bad)
            self.page.until("document.querySelectorAll('#files .file').length === 1", what="one file is there")
            self.assertIn("chart.bin is not a text file", self.page.text("#toast"))
            self.ask("How deep?")
        self.assertEqual(self.bodies()[0]["messages"][0]["content"],
                         "[file name]: soundings.csv\n[file content begin]\nx,depth\n1,12\n\n[file content end]\nHow deep?")
        self.assertIn("soundings.csv", self.page.text(".message.user .files"))
        self.assertFalse(self.page.shown("#files"))

    def test_settings_are_sent(self):
        self.page.click("#panel-open")
        for name, value in (("system", "Be brief."), ("temperature", "0.7"), ("top_p", "0.9"), ("top_k", "40"), ("min_p", "0.05"),
                            ("max_tokens", "77"), ("seed", "5"), ("frequency_penalty", "0.5"), ("presence_penalty", "-0.5"),
                            ("stop", "END\\n\nstop here")):
            self.page.fill(f"#set-{name}", value)
        self.page.js("document.querySelector('input[name=thinking][value=on]').click()")
        self.shot("settings")
        self.page.fill("#set-top_p", "3")
        self.assertIn("From 0 to 1", self.page.text("#wrong-top_p"))
        self.ask("go")
        body = self.bodies()[0]
        wanted = {"temperature": 0.7, "top_p": 0.9, "top_k": 40, "min_p": 0.05, "max_tokens": 77, "seed": 5, "frequency_penalty": 0.5,
                  "presence_penalty": -0.5, "stop": ["END\n", "stop here"], "chat_template_kwargs": {"thinking": True}}
        self.assertEqual({k: body.get(k) for k in wanted}, wanted, "a value out of range is not taken")
        self.assertEqual(body["messages"][0], {"role": "system", "content": "Be brief."})
        self.press("Back to the defaults")
        self.ask("again")
        self.assertTrue(set(wanted).isdisjoint(self.bodies()[-1]))

    def test_keyboard(self):
        self.write("one line")
        self.page.key("Enter", SHIFT)
        self.page.type("another")
        self.page.key("Enter")
        self.idle()
        self.assertEqual(self.bodies()[0]["messages"][0]["content"], "one line\nanother")
        self.page.key("k", CTRL)
        self.assertEqual(self.page.js("document.activeElement.id"), "search")
        self.page.key("Escape")
        self.assertEqual(self.page.js("document.activeElement.id"), "composer-text")
        self.page.key("ArrowUp")
        self.page.until("document.activeElement.matches('.editor textarea')", what="arrow up edits the last question")
        self.page.key("Escape")
        self.page.js("document.activeElement.blur()")
        seen = set()
        for _ in range(24):
            self.page.key("Tab")
            seen.add(self.page.js("document.activeElement.id || document.activeElement.getAttribute('aria-label') || ''"))
            ring = self.page.js("(() => { const s = getComputedStyle(document.activeElement); const c = document.activeElement.closest('#composer');"
                                " return document.activeElement === document.body || s.outlineStyle !== 'none' || Boolean(c); })()")
            self.assertTrue(ring, f"no focus ring on {seen}")
        self.assertTrue({"new", "search", "theme", "panel-open", "scroll"} <= seen, seen)


class Completion(PageTest):
    def test_a_story(self):
        self.choose_model("mock-story")
        self.assertTrue(self.page.shown("#mode"))
        self.assertIn("completion mode", self.page.text(".welcome"))
        self.shot("completion-empty")
        self.page.click(".openings button")
        self.idle()
        opening = "Once upon a time there was a little fox who lived at the edge of a great forest."
        path, body = self.mock.requests[0]
        self.assertEqual((path, body["prompt"], body["max_tokens"]), ("/v1/completions", opening, 200))
        self.assertNotIn("messages", body)
        self.assertEqual(self.page.js("document.querySelector('.manuscript .text').textContent"), opening + STORY)
        self.page.js("document.getElementById('composer-text').focus()")
        self.page.key("Enter")
        self.idle()
        self.assertEqual(self.bodies()[1]["prompt"], opening + STORY)
        self.ask("Then it rained.")
        self.assertEqual(self.bodies()[2]["prompt"], opening + STORY + STORY + " Then it rained.")
        self.press("Write this passage again", ".tools")
        self.idle()
        self.assertEqual(self.page.text(".tools .branches"), "2/2")
        self.assertEqual(self.bodies()[3]["prompt"], self.bodies()[2]["prompt"])
        self.page.js("document.getElementById('scroll').scrollTop = 0")
        self.page.click(".passage.user")
        self.press("Edit this passage", ".tools")
        self.page.fill(".editor textarea", "There was a hen")
        before = len(self.mock.requests)
        self.press("Keep as a new version")
        self.assertEqual(self.page.js("document.querySelector('.manuscript .text').textContent"), "There was a hen")
        self.assertEqual(len(self.mock.requests), before, "the model goes on when it is asked to")
        self.page.js("document.getElementById('composer-text').focus()")
        self.page.key("Enter")
        self.idle()
        self.assertEqual(self.bodies()[-1]["prompt"], "There was a hen")
        self.shot("completion")

    def test_a_text_longer_than_the_context(self):
        self.mock.pause = 0
        self.choose_model("mock-story")
        beginning = "\n".join(f"Line {i} of a long beginning." for i in range(900))
        self.ask(beginning)
        prompts = []
        for _ in range(3):
            before = self.page.number(".passage")
            self.page.key("Enter")
            self.asked(before)
            prompts.append(self.bodies()[-1]["prompt"])
        whole = self.page.js("document.querySelector('.manuscript .text').textContent")
        for i, prompt in enumerate(prompts):
            self.assertLess(len(prompt) / 4, 4096 - 200, "as many tokens as fit beside the answer")
            self.assertGreater(len(prompt) / 4, 4096 / 4)
            self.assertIn(prompt + STORY, whole)
            self.assertTrue(prompt.startswith(prompts[0]), "the same beginning, so that the server has it in its cache")
        self.assertIn("read the end of the text only", self.page.text(".tools .stats"))
        self.assertEqual(self.page.number(".trouble"), 0)

    def test_a_model_that_turns_out_not_to_chat(self):
        self.expected_errors = ("400",)
        self.choose_model("mock-surprise")
        self.ask("The hen said")
        self.assertIn("This model cannot chat.", self.page.text(".trouble"))
        self.shot("completion-only")
        self.press("Continue it as a text")
        self.idle()
        self.assertEqual(self.page.js("document.querySelector('.manuscript .text').textContent"), "The hen said" + STORY)
        self.page.click("#new")
        self.assertTrue(self.page.shown("#mode"), "known from now on")


class Errors(PageTest):
    def test_busy(self):
        self.expected_errors = ("429",)
        self.mock.busy = 1
        self.send("busy")
        self.page.until("document.querySelector('.trouble')?.innerText.includes('more requests than it can take')")
        self.assertRegex(self.page.text(".trouble button"), r"^Trying again in [12] s$")
        self.shot("busy")
        self.page.until(f"document.querySelector('{LAST} .prose')?.innerText === 'You said: busy'", 10, "it tried again by itself")
        self.assertEqual(self.page.number(".trouble"), 0)
        self.assertEqual(self.page.number(".message"), 2)

    def test_too_long(self):
        self.expected_errors = ("400",)
        self.ask("toolong")
        self.assertIn("longer than the model can read", self.page.text(".trouble"))
        self.assertIn("5000 were sent", self.page.text(".trouble"))
        self.press("New conversation", ".trouble")
        self.assertEqual(self.page.number(".message"), 0)

    def test_cut_in_the_middle(self):
        self.expected_errors = ("ERR_",)
        self.ask("cut")
        self.assertIn("broke before the answer was complete", self.page.text(".trouble"))
        self.assertIn("The line broke", self.page.text(f"{LAST} .prose"), "what had come is kept")
        self.press("Try again", ".trouble")
        self.idle()
        self.assertEqual(self.page.text(f"{LAST} .branches"), "2/2")

    def test_server_gone(self):
        self.expected_errors = ("ERR_",)
        self.ask("before")
        port = self.mock.port
        self.mock.close()
        self.ask("after")
        self.assertIn("The server does not answer.", self.page.text(".trouble"))
        self.shot("gone")
        self.mock = Mock(port=port)
        self.press("Try again", ".trouble")
        self.page.until(f"document.querySelector('{LAST} .prose')?.innerText === 'You said: after'", what="the answer comes")
        self.assertEqual(len(self.bodies()[-1]["messages"]), 3)


class Key(PageTest):
    mock_options = {"key": "secret-key"}

    def begin(self):
        self.expected_errors = ("401",)
        self.page.open(self.url)

    def test_key_is_asked_for(self):
        self.page.until("document.getElementById('key-dialog').open", what="the page asks for the key")
        self.shot("key")
        self.page.fill("#key", "wrong")
        self.page.key("Enter")
        self.page.until("document.querySelector('#key-wrong:not([hidden])')", what="it says that the key is wrong")
        self.page.fill("#key", "secret-key")
        self.page.key("Enter")
        self.page.until("document.getElementById('model').options.length === 3", what="the models are read")
        self.assertFalse(self.page.js("document.getElementById('key-dialog').open"))
        self.ask("hello")
        self.assertEqual(self.page.text(f"{LAST} .prose"), "You said: hello")
        self.begin()
        self.page.until("document.getElementById('model').options.length === 3", what="the key is remembered")
