"""Chromium without a window, spoken to over --remote-debugging-pipe: messages in JSON, each ended by a zero byte, on two
pipes (file descriptors 3 and 4 of the browser). No driver program and no library is needed for that."""

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import tempfile
import time


class Failed(AssertionError):
    pass


def find_chromium():
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


KEYS = {
    "Enter": (13, "\r"), "Escape": (27, ""), "Tab": (9, ""), "ArrowDown": (40, ""), "ArrowUp": (38, ""), "Delete": (46, ""),
    "F2": (113, ""), "k": (75, "k"),
}
CTRL, SHIFT = 2, 8


class Browser:
    def __init__(self):
        self.pages = {}
        # Root, and containers without user namespaces, have no sandbox to offer; what is opened is this project's own.
        for sandbox in ([[]] if os.geteuid() else []) + [["--no-sandbox"]]:
            self.start(sandbox)
            try:
                self.call("Browser.getVersion")
                return
            except (Failed, OSError) as error:
                failure = error
                self.close()
        raise failure

    def start(self, more):
        self.profile = tempfile.mkdtemp(prefix="fathom-page-")
        self.buffer, self.next_id = b"", 0
        to_read, self.to = os.pipe()
        self.answers, from_write = os.pipe()
        # Not 3 or 4 themselves, so that neither is overwritten before it is moved there.
        to_high = fcntl.fcntl(to_read, fcntl.F_DUPFD, 20)
        from_high = fcntl.fcntl(from_write, fcntl.F_DUPFD, 20)

        def move():
            os.dup2(to_high, 3)
            os.dup2(from_high, 4)

        options = [
            "--headless=new", "--remote-debugging-pipe", f"--user-data-dir={self.profile}", "--no-first-run", "--disable-gpu",
            "--disable-dev-shm-usage", "--disable-extensions", "--disable-background-networking", "--disable-component-update",
            "--hide-scrollbars", "--force-color-profile=srgb", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
        ]
        self.process = subprocess.Popen([find_chromium(), *options, *more], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL, pass_fds=(3, 4), preexec_fn=move)
        for fd in (to_read, from_write, to_high, from_high):
            os.close(fd)

    def close(self):
        try:
            self.call("Browser.close")
            self.process.wait(10)
        except (Failed, OSError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()
        os.close(self.to)
        os.close(self.answers)
        shutil.rmtree(self.profile, ignore_errors=True)

    def read(self, deadline):
        """One message, or None when the time is over."""
        while b"\0" not in self.buffer:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.answers], [], [], left)[0]:
                return None
            got = os.read(self.answers, 1 << 16)
            if not got:
                raise Failed("the browser has gone")
            self.buffer += got
        line, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(line)

    def call(self, method, params=None, session=None, seconds=30):
        self.next_id += 1
        wanted = self.next_id
        message = {"id": wanted, "method": method, "params": params or {}}
        if session:
            message["sessionId"] = session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self.to, data):]
        deadline = time.monotonic() + seconds
        while True:
            got = self.read(deadline)
            if got is None:
                raise Failed(f"{method}: no answer within {seconds} s")
            if got.get("id") == wanted:
                if "error" in got:
                    raise Failed(f"{method}: {got['error']['message']}")
                return got["result"]
            self.take(got)

    def take(self, event):
        page = self.pages.get(event.get("sessionId"))
        if page and "method" in event:
            page.take(event["method"], event["params"])

    def page(self, **options):
        context = self.call("Target.createBrowserContext")["browserContextId"]
        target = self.call("Target.createTarget", {"url": "about:blank", "browserContextId": context})["targetId"]
        session = self.call("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        return Page(self, session, target, context, **options)


class Page:
    """A tab in a profile of its own."""

    def __init__(self, browser, session, target, context, width=1280, height=860, mobile=False, dark=False):
        self.browser, self.session, self.target, self.context = browser, session, target, context
        browser.pages[session] = self
        self.errors, self.requests, self.downloads = [], [], []
        for domain in ("Page", "Runtime", "Log", "Network", "DOM"):
            self.call(f"{domain}.enable")
        self.size(width, height, mobile)
        self.dark(dark)

    def close(self):
        self.browser.call("Target.closeTarget", {"targetId": self.target})
        self.browser.call("Target.disposeBrowserContext", {"browserContextId": self.context})
        self.browser.pages.pop(self.session)

    def call(self, method, params=None, seconds=30):
        return self.browser.call(method, params, self.session, seconds)

    def take(self, method, params):
        if method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.errors.append(details.get("exception", {}).get("description") or details["text"])
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.errors.append(" ".join(str(a.get("value", a.get("description"))) for a in params["args"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            entry = params["entry"]
            self.errors.append(f"{entry['source']}: {entry['text']} {entry.get('url', '')}")
        elif method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Page.javascriptDialogOpening":
            self.errors.append(f"dialog: {params['message']}")
            # Not self.call: an answer may be awaited just now.
            message = {"id": 0, "method": "Page.handleJavaScriptDialog", "params": {"accept": True}, "sessionId": self.session}
            os.write(self.browser.to, json.dumps(message).encode() + b"\0")

    def size(self, width, height, mobile=False):
        self.call("Emulation.setDeviceMetricsOverride",
                  {"width": width, "height": height, "deviceScaleFactor": 2 if mobile else 1, "mobile": mobile})
        self.call("Emulation.setTouchEmulationEnabled", {"enabled": mobile})

    def dark(self, on):
        self.call("Emulation.setEmulatedMedia",
                  {"features": [{"name": "prefers-color-scheme", "value": "dark" if on else "light"}]})

    def open(self, url):
        self.call("Page.navigate", {"url": url})
        self.until("document.readyState === 'complete' && document.getElementById('thread')?.childElementCount > 0",
                   what="the page is there")

    def reload(self):
        self.js("window.old = true")
        self.call("Page.reload")
        self.until("!window.old && document.getElementById('model')?.options.length > 0", what="the page is there again")

    def js(self, expression):
        result = self.call("Runtime.evaluate", {"expression": expression, "awaitPromise": True, "returnByValue": True})
        if "exceptionDetails" in result:
            details = result["exceptionDetails"]
            raise Failed(f"{expression}: {details.get('exception', {}).get('description') or details['text']}")
        return result["result"].get("value")

    def until(self, expression, seconds=20, what=None):
        deadline = time.monotonic() + seconds
        while True:
            if self.js(f"(async () => Boolean(await ({expression})))()"):
                return
            if time.monotonic() > deadline:
                raise Failed(f"not within {seconds} s: {what or expression}; errors of the page: {self.errors}")
            time.sleep(0.03)

    def text(self, selector):
        return self.js(f"document.querySelector({json.dumps(selector)})?.innerText ?? null")

    def number(self, selector):
        return self.js(f"document.querySelectorAll({json.dumps(selector)}).length")

    def shown(self, selector):
        return self.js(f"(() => {{ const e = document.querySelector({json.dumps(selector)}); "
                       "return Boolean(e && e.checkVisibility({visibilityProperty: true, opacityProperty: true})); })()")

    def click(self, selector):
        found = f"document.querySelector({json.dumps(selector)})"
        self.until(f"Boolean({found})", what=f"{selector} is there")
        self.js(f"{found}.scrollIntoView({{block: 'nearest'}})")
        at = self.js(f"(() => {{ const r = {found}.getClientRects()[0]; return [r.x + r.width / 2, r.y + r.height / 2]; }})()")
        hit = self.js(f"(() => {{ const e = document.elementFromPoint({at[0]}, {at[1]}); const t = {found}; "
                      "return Boolean(e) && (t === e || t.contains(e) || e.contains(t)); })()")
        if not hit:
            raise Failed(f"{selector} is covered or outside the window, at {at}")
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent",
                      {"type": kind, "x": at[0], "y": at[1], "button": "left", "clickCount": 0 if kind == "mouseMoved" else 1})

    def key(self, name, modifiers=0):
        code, text = KEYS[name]
        event = {"key": name, "code": f"Key{name.upper()}" if len(name) == 1 else name, "windowsVirtualKeyCode": code,
                 "modifiers": modifiers}
        self.call("Input.dispatchKeyEvent", {"type": "keyDown", **event, **({"text": text} if text and modifiers != CTRL else {})})
        self.call("Input.dispatchKeyEvent", {"type": "keyUp", **event})

    def type(self, text):
        self.call("Input.insertText", {"text": text})

    def fill(self, selector, text):
        self.js(f"(() => {{ const e = document.querySelector({json.dumps(selector)}); e.focus(); e.select(); }})()")
        self.type(text)

    def choose_file(self, selector, *paths):
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", {"nodeId": root, "selector": selector})["nodeId"]
        self.call("DOM.setFileInputFiles", {"files": [str(p) for p in paths], "nodeId": node})

    def downloads_to(self, folder):
        self.browser.call("Browser.setDownloadBehavior",
                          {"behavior": "allow", "downloadPath": str(folder), "browserContextId": self.context})

    def screenshot(self, path):
        data = self.call("Page.captureScreenshot", {"format": "png"})["data"]
        with open(path, "wb") as file:
            file.write(base64.b64decode(data))
