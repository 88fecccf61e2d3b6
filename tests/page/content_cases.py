"""What an answer becomes on the page, and what it must not do."""

import json
import sys
import time

from mock_server import CODE, MARKDOWN, MATHS, SCRIPT
from page_case import LAST, PageTest


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
