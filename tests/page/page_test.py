"""The chat page in a real browser: page_test.py TOPIC... (or nothing, for all). With FATHOM_PAGE_SHOTS=folder, pictures of
it are left there to be looked at. `served` needs FATHOM_BINARY and FATHOM_MODEL; the others talk to mock_server.py.
Exit code 77: skipped, with the reason."""

import inspect
import json
import os
import pathlib
import sys
import tempfile
import time
import unittest

import browser
from browser import CTRL, SHIFT, Failed
from mock_server import CODE, MARKDOWN, MATHS, ROOT, SCRIPT, STORY, Mock

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
        for selector, number in (("strong", 1), ("em", 1), ("td", 6), ("ol > li", 2), ("blockquote", 1), (".check", 2)):
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


class Markdown(PageTest):
    def test_code(self):
        self.ask("code please")
        self.page.until(f"document.querySelectorAll('{LAST} .hljs-keyword').length > 3", what="colours")
        block = f"{LAST} .code:first-of-type code"
        python = CODE.split("```python\n")[1].split("\n```")[0]
        make = CODE.split("```make\n")[1].split("\n```")[0]
        self.assertEqual(self.page.js(f"document.querySelector('{block}').textContent"), python)
        self.assertEqual(self.page.js(f"document.querySelectorAll('{LAST} .code code')[1].textContent"), make, "tabs are kept")
        strings = self.page.js(f"[...document.querySelectorAll('{block} .hljs-string')].map(e => e.textContent).join('')")
        self.assertIn("Two lines of text in a string.", strings, "the colour of a string goes on over lines")
        self.assertEqual(self.page.number(f"{LAST} li .code .hljs-keyword"), 2)
        self.page.js("navigator.clipboard.writeText = (text) => { window.copied = text; return Promise.resolve(); }")
        self.press("Copy the code", f"{LAST} .code")
        self.assertEqual(self.page.js("window.copied"), python)
        self.shot("code")

    def test_formulas(self):
        self.ask("maths please")
        self.page.until(f"document.querySelectorAll('{LAST} .katex').length === 4", what="four formulas")
        self.assertEqual(self.page.number(f"{LAST} .katex-display"), 2)
        self.assertEqual(self.page.number(f"{LAST} .katex-error"), 0)
        self.assertEqual(self.page.number(f"{LAST} math"), 4, "for those who have it read to them")
        words = self.page.text(f"{LAST} .prose")
        self.assertIn("Charts cost $5 or $10, which is not a formula.", words)
        self.assertNotIn("$$", words)
        self.assertNotIn("\\[", words)
        self.page.until("document.fonts.check('16px KaTeX_Math')", what="the formulas' font")
        self.shot("maths")

    def stream(self, text, seed):
        """Feeds the text in pieces and whole; returns both, and how many elements that were finished were made again."""
        return self.page.js(f"""(async () => {{
          const {{ StreamView }} = await import('./stream_view.js');
          const {{ loadScript }} = await import('./dom.js');
          await Promise.all([loadScript('lib/katex.js'), loadScript('lib/highlight.js')]);
          const text = {json.dumps(text)};
          let seed = {seed};
          const random = () => (seed = (seed * 1103515245 + 12345) & 0x7fffffff) / 0x7fffffff;
          const one = document.createElement('div'), other = document.createElement('div');
          const view = new StreamView(one);
          let again = 0, kept = [];
          for (let at = 0; at < text.length; ) {{
            at = Math.min(text.length, at + 1 + Math.floor(random() * 6));
            view.update(text.slice(0, at), false);
            const done = [...one.children].filter((e) => !e.classList.contains('tail'));
            again += kept.filter((e, i) => done[i] !== e).length;
            kept = done;
          }}
          view.update(text, true);
          new StreamView(other).update(text, true);
          return {{ streamed: one.innerHTML, whole: other.innerHTML, again }};
        }})()""")

    def test_streamed_is_what_whole_is(self):
        self.expected_errors = ("Executing inline event handler",)
        loose = "- a\n- b\n\n- c\n\nText [link] and more.\n\n[link]: https://there.example/\n\nThen [link] again.\n\n    indented\n\n***\nend"
        setext = "Title\n=====\nwords\n~~~\ntildes ``` in\n~~~\nafter\n\n````md\n```\ninner\n```\n````\n$$x$$\n\n\\[ y \n\n z \\]\nlast"
        for text in (MARKDOWN, CODE, MATHS, SCRIPT, loose, setext, MARKDOWN.replace("\n", "\r\n"), "unclosed **bold and `code", "```py\nx = 1"):
            for seed in (1, 2, 3):
                with self.subTest(text=text[:20], seed=seed):
                    got = self.stream(text, seed)
                    self.assertEqual(got["again"], 0, "finished blocks are left alone")
                    # Links that are defined further down are only links where the text was there at once.
                    if text != loose:
                        self.assertEqual(got["streamed"], got["whole"])

    def test_cost_does_not_grow(self):
        nodes = self.page.js("""(async () => {
          const { StreamView } = await import('./stream_view.js');
          const place = document.createElement('div');
          const view = new StreamView(place);
          let added = 0;
          new MutationObserver((list) => list.forEach((m) => (added += m.addedNodes.length))).observe(place, { childList: true, subtree: true });
          const costs = [];
          let text = '';
          for (let i = 0; i < 400; ++i) {
            const before = added;
            for (const piece of ['Some **bo', 'ld** words ', 'and a ', '`name`.', '\\n\\n']) {
              text += piece;
              view.update(text, false);
            }
            await null;
            costs.push(added - before);
          }
          return [Math.max(...costs.slice(10, 60)), Math.max(...costs.slice(-50))];
        })()""")
        self.assertLessEqual(nodes[1], nodes[0], "elements made for a paragraph, early and late in a long answer")

    def test_long_answer_stays_smooth(self):
        self.mock.pause = 0
        self.page.js("""(() => { window.slowest = 0; let last = performance.now();
          const tick = (now) => { window.slowest = Math.max(window.slowest, now - last); last = now; requestAnimationFrame(tick); };
          requestAnimationFrame(tick); })()""")
        self.send("long")
        self.idle(60)
        self.assertEqual(self.page.number(f"{LAST} .prose p"), 600)
        print(f"\n  longest frame of an answer of 600 paragraphs: {self.page.js('window.slowest'):.0f} ms", file=sys.stderr)
        end = "document.getElementById('scroll').scrollHeight - document.getElementById('scroll').scrollTop - document.getElementById('scroll').clientHeight"
        self.assertLess(self.page.js(end), 2, "the end stays in sight")


class Safety(PageTest):
    def test_script_in_an_answer_does_not_run(self):
        self.expected_errors = ("Executing inline event handler",)  # refused already where the filter parses
        self.ask("script")
        self.page.until(f"document.querySelector('{LAST} .code') && window.katex", what="all of it is there")
        time.sleep(0.5)
        self.assertEqual(self.page.js("window.hacked"), None)
        words = self.page.text(f"{LAST} .prose")
        self.assertIn("Harmless words.", words)
        self.assertIn("The end.", words)
        for selector in ("script", "iframe", "form", "input", "style", "svg[onload]", "[onerror]", "[onload]", "[srcdoc]", "img[src]",
                         "[href^='javascript']", "math style", "#composer", "div.trouble"):
            self.assertEqual(self.page.number(f"{LAST} .prose {selector}"), 0, selector)
        styled = self.page.js(f"[...document.querySelectorAll('{LAST} .prose [style]')].filter(e => !e.closest('.katex')).length")
        self.assertEqual(styled, 0, "no styles of the answer's choice")
        rels = self.page.js(f"[...document.querySelectorAll('{LAST} .prose a[href]')].map(a => [a.rel, a.target, a.protocol])")
        self.assertEqual(len(rels), 1, "the picture, as a link")
        self.assertIn("noopener", rels[0][0])
        self.assertEqual(rels[0][1:], ["_blank", "https:"])
        self.shot("script")

    def test_the_policy_holds_where_the_filter_would_not(self):
        self.expected_errors = ("Content Security Policy",)
        self.page.js("""(() => {
          const place = document.createElement('div');
          place.innerHTML = '<img src="https://elsewhere.example/a.png"><img src="nothing.png" onerror="window.hacked = 1">';
          document.body.append(place);
          const script = document.createElement('script');
          script.textContent = 'window.hacked = 2';
          document.body.append(script);
        })()""")
        blocked = self.page.js("fetch('https://elsewhere.example/').then(() => 'sent', () => 'refused')")
        self.assertEqual(blocked, "refused")
        time.sleep(0.3)
        self.assertEqual(self.page.js("window.hacked"), None)
        self.expected_errors += ("404",)
        # The browser names what it was asked for, though the policy let none of it out.
        self.page.requests = [r for r in self.page.requests if "elsewhere.example" not in r]


class Filter(Safety):
    """The same without the policy: the filter alone."""

    mock_options = {"policy": False}
    test_the_policy_holds_where_the_filter_would_not = None


class Storage(PageTest):
    def test_reload_keeps_the_conversation(self):
        self.ask("code please")
        self.press("Another answer", LAST)
        self.idle()
        before = self.page.text("#thread")
        self.page.until("indexedDB.databases().then(d => d.length)")
        time.sleep(0.2)
        self.page.reload()
        self.page.until("document.querySelectorAll('.message').length === 2", what="the messages are back")
        self.page.until(f"document.querySelectorAll('{LAST} .hljs-keyword').length > 3")
        self.assertEqual(self.page.text("#thread"), before)
        self.assertEqual(self.page.text(f"{LAST} .branches"), "2/2")
        self.ask("go on")
        self.assertEqual(len(self.bodies()[-1]["messages"]), 3)

    def titles(self):
        return self.page.js("[...document.querySelectorAll('#conversations .open')].map(e => e.innerText)")

    def test_several_conversations(self):
        self.ask("whales")
        self.page.click("#new")
        self.ask("tides and moons")
        self.assertEqual(self.titles(), ["tides and moons", "whales"])
        self.page.fill("#search", "SAID whales")
        self.page.until("document.querySelectorAll('#conversations .open').length === 1", what="the search finds one by its answer")
        self.assertEqual(self.titles(), ["whales"])
        self.page.key("Enter")
        self.page.until("document.getElementById('title').innerText === 'whales'")
        self.page.fill("#search", "nowhere")
        self.page.until("document.querySelector('#conversations .none')")
        self.page.key("Escape")
        self.page.until("document.querySelectorAll('#conversations .open').length === 2")
        self.page.js("document.querySelector('.row-item.current .open').focus()")
        self.press("Rename", ".row-item.current")
        self.page.fill(".row-item input", "blue whales")
        self.page.key("Enter")
        self.page.until("document.getElementById('title').innerText === 'blue whales'", what="the new name")
        self.page.js("document.querySelector('.row-item.current .open').focus()")
        self.press("Delete", ".row-item.current")
        self.page.until("document.querySelectorAll('#conversations .open').length === 1")
        self.press("Undo", "#toast")
        self.page.until("document.querySelectorAll('#conversations .open').length === 2")
        time.sleep(0.2)
        self.begin()
        self.assertEqual(sorted(self.titles()), ["blue whales", "tides and moons"])

    def test_an_answer_goes_on_while_another_conversation_is_shown(self):
        self.mock.pause = 0.02
        self.send("markdown please")
        self.page.until(f"document.querySelector('{LAST} .prose')?.innerText.length > 20")
        self.page.click("#new")
        self.assertFalse(self.page.shown("#stop"))
        self.ask("meanwhile")
        self.page.until("[...document.querySelectorAll('#conversations .open')].find(e => e.innerText === 'markdown please')")
        self.page.js("[...document.querySelectorAll('#conversations .open')].find(e => e.innerText === 'markdown please').click()")
        self.page.until("document.getElementById('title').innerText === 'markdown please'")
        self.idle()
        self.assertIn("the almanac", self.page.text(f"{LAST} .prose"))
        self.assertIn("tokens/s", self.page.text(f"{LAST} .stats"))

    def test_export_and_import(self):
        self.ask("maths please")
        self.press("Another answer", LAST)
        self.idle()
        with tempfile.TemporaryDirectory() as folder:
            self.page.downloads_to(folder)
            self.page.click("#export")
            deadline = time.monotonic() + 10
            while not (found := list(pathlib.Path(folder).glob("*.json"))) and time.monotonic() < deadline:
                time.sleep(0.05)
            self.assertEqual(len(found), 1)
            data = json.loads(found[0].read_text())
            self.assertEqual(data["format"], "fathom-conversations")
            other = self.browser.page()
            try:
                other.open(self.url)
                other.choose_file("#import-file", found[0])
                other.until("document.querySelector('#conversations .open')?.innerText === 'maths please'", what="it is in the other list")
                other.click("#conversations .open")
                other.until("document.querySelectorAll('.katex').length === 4")
                self.assertEqual(other.text(f"{LAST} .branches"), "2/2")
                for name, text in (("a.json", "{"), ("b.json", "[]"), ("c.json", '{"format":"fathom-conversations","version":99}')):
                    pathlib.Path(folder, name).write_text(text)
                    other.choose_file("#import-file", pathlib.Path(folder, name))
                    other.until(f"document.getElementById('toast').innerText.startsWith('{name} was not imported')")
                # A file made to harm: wrong types, a cycle, markup in names.
                bad = {"format": "fathom-conversations", "version": 1, "conversations": [7, {"nodes": {}}, {
                    "id": "x", "title": "<img src=x onerror=alert(1)>", "settings": {"temperature": "hot", "top_k": 3},
                    "nodes": {"root": {"id": "root", "children": ["0" * 24, "nothing", 5]},
                              "0" * 24: {"id": "0" * 24, "parent": "root", "role": "user", "text": {"a": 1}, "children": ["0" * 24]}}}]}
                pathlib.Path(folder, "d.json").write_text(json.dumps(bad))
                other.choose_file("#import-file", pathlib.Path(folder, "d.json"))
                other.until("document.querySelectorAll('#conversations .open').length === 2")
                self.assertEqual(other.errors, [])
            finally:
                other.close()


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
        self.press("Keep as a new version")
        self.assertEqual(self.page.js("document.querySelector('.manuscript .text').textContent"), "There was a hen")
        self.page.js("document.getElementById('composer-text').focus()")
        self.page.key("Enter")
        self.idle()
        self.assertEqual(self.bodies()[-1]["prompt"], "There was a hen")
        self.shot("completion")

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


class Look(PageTest):
    def test_phone(self):
        self.page.size(390, 844, mobile=True)
        self.begin()
        for question in ("markdown", "code", "maths"):
            before = self.page.number(".message")
            self.write(question)
            self.page.click("#send")
            self.asked(before)
            self.assertEqual(self.page.js("[innerWidth, document.scrollingElement.scrollWidth]"), [390, 390], question)
            self.assertLessEqual(self.page.js("document.getElementById('scroll').scrollWidth"), 390, question)
            self.shot(f"phone-{question}")
        self.assertFalse(self.page.shown("#sidebar"))
        self.page.click("#side-open")
        self.page.until("document.getElementById('sidebar').getBoundingClientRect().x === 0", what="the drawer is open")
        self.assertTrue(self.page.js("document.getElementById('main').inert"))
        self.shot("phone-drawer")
        self.page.key("Escape")
        self.page.until("document.getElementById('sidebar').getBoundingClientRect().right <= 0", what="the drawer is closed")
        self.page.click("#panel-open")
        self.assertLessEqual(self.page.js("document.getElementById('panel').getBoundingClientRect().right"), 390)
        self.shot("phone-settings")
        small = self.page.js("""[...document.querySelectorAll('#panel button, #composer button')].filter(b => b.checkVisibility())
          .map(b => b.getBoundingClientRect()).filter(r => r.width < 40 || r.height < 36).length""")
        self.assertEqual(small, 0, "what is to be touched is large enough")

    BACK = "getComputedStyle(document.body).backgroundColor"

    def test_dark_and_light(self):
        light = self.page.js(self.BACK)
        self.page.dark(True)
        self.page.until(f"{self.BACK} !== {json.dumps(light)}", what="the system's setting is followed")
        dark = self.page.js(self.BACK)
        self.ask("code")
        self.shot("desktop-dark")
        self.page.click("#theme")
        self.assertEqual(self.page.js(self.BACK), light, "the switch goes before the system")
        self.begin()
        self.assertEqual(self.page.js(self.BACK), light, "and is remembered")
        self.page.click("#theme")
        self.assertEqual(self.page.js(self.BACK), dark)

    def test_contrast(self):
        """WCAG AA: 4.5 to 1 for text, in both themes."""
        pairs = [("ink", "paper"), ("ink", "raised"), ("ink", "side"), ("ink", "tint"), ("ink", "hover"), ("soft", "paper"), ("soft", "side"),
                 ("faint", "paper"), ("faint", "raised"), ("faint", "side"), ("accent", "paper"), ("accent", "tint"), ("on-accent", "accent"),
                 ("bad", "bad-tint"), ("ink", "bad-tint")] + [(f"c-{n}", "raised") for n in ("word", "text", "number", "note", "name", "type")]
        for dark in (False, True):
            self.page.dark(dark)
            time.sleep(0.1)
            ratios = self.page.js(f"""{json.dumps(pairs)}.map(([a, b]) => {{
              const light = (name) => {{
                const hex = getComputedStyle(document.documentElement).getPropertyValue('--' + name).trim().slice(1);
                const part = [0, 2, 4].map((i) => parseInt(hex.slice(i, i + 2), 16) / 255).map((v) => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
                return .2126 * part[0] + .7152 * part[1] + .0722 * part[2];
              }};
              const [x, y] = [light(a), light(b)].sort((p, q) => q - p);
              return [a, b, (x + .05) / (y + .05)];
            }})""")
            low = [r for r in ratios if not r[2] >= 4.5]
            self.assertEqual(low, [], "dark" if dark else "light")

    def test_everything_has_a_name(self):
        self.ask("think")
        self.page.click("#panel-open")
        tree = self.page.call("Accessibility.getFullAXTree")["nodes"]
        wanted = {"button", "textbox", "searchbox", "combobox", "radio", "spinbutton", "article", "navigation", "complementary", "region"}
        nameless = [n["role"]["value"] for n in tree if not n.get("ignored") and n.get("role", {}).get("value") in wanted
                    and not n.get("name", {}).get("value")]
        self.assertEqual(nameless, [])
        roles = {n["role"]["value"] for n in tree if not n.get("ignored") and "role" in n}
        self.assertTrue({"navigation", "main", "article", "list", "listitem", "heading"} <= roles, roles)
        self.assertEqual(self.page.js("document.getElementById('announcer').getAttribute('aria-live')"), "polite")


TOPICS = {c.__name__.lower(): c for c in (Chat, Markdown, Safety, Filter, Storage, Completion, Errors, Key, Look)}


def skip(reason):
    print(f"{__file__}:{inspect.currentframe().f_back.f_lineno}: Skipped\n{reason}\n")
    sys.exit(77)


def main():
    if not browser.find_chromium():
        skip("Chromium is not installed (Debian's package chromium)")
    if SHOTS:
        os.makedirs(SHOTS, exist_ok=True)
    suite = unittest.TestSuite()
    for name in sys.argv[1:] or TOPICS:
        topic, _, method = name.partition(".")
        suite.addTests([TOPICS[topic](method)] if method else unittest.defaultTestLoader.loadTestsFromTestCase(TOPICS[topic]))
    result = unittest.TextTestRunner(verbosity=2).run(suite)
    sys.exit(not result.wasSuccessful())


if __name__ == "__main__":
    main()
