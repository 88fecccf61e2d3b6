"""What is kept, and what it looks like."""

import json
import pathlib
import tempfile
import time

from page_case import LAST, PageTest


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

    def test_deleted_while_its_answer_streams(self):
        self.send("slow")
        self.page.until(f"document.querySelector('{LAST} .prose')?.innerText.length > 20")
        self.page.js("document.querySelector('.row-item.current .open').focus()")
        self.page.key("Delete")
        self.page.until("document.querySelector('#conversations .none')", what="the list is empty")
        time.sleep(2)  # longer than it takes to save what streams
        self.page.reload()
        self.assertEqual(self.titles(), [])
        self.assertEqual(self.mock.gone, 1)

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
