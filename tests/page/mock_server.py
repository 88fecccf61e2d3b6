"""An OpenAI server with canned answers, and the page's files as the program serves them: for what the model that ships
does not say (Markdown, code, formulas, thinking, scripts) and does not do (fail)."""

import http.server
import json
import pathlib
import re
import socket
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
TYPES = {".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8",
         ".svg": "image/svg+xml", ".woff2": "font/woff2"}


def libraries():
    """The list in cmake/embed.cmake, and the fonts."""
    text = (ROOT / "cmake/embed.cmake").read_text()
    files = {path: pathlib.Path(file) for path, file in re.findall(r'"(lib/[^|"]+)\|[^|"]+\|([^"]+)"', text)}
    for font in pathlib.Path("/usr/share/fonts/truetype/katex").glob("*.woff2"):
        files[f"lib/fonts/{font.name}"] = font
    return files


def page_policy():
    """kPagePolicy of src/server/page.h."""
    text = (ROOT / "src/server/page.h").read_text()
    return "".join(re.findall(r'"([^"]*)"', text[text.index("kPagePolicy"):]))


MARKDOWN = """# Tides

The **Moon** pulls the sea; the *Sun* helps. A day has two high waters, about `12 h 25 min` apart.

| body | pull on the sea | period |
|---|---:|---:|
| Moon | 1.00 | 12.42 h |
| Sun | 0.46 | 12.00 h |

1. Spring tides: both in line.
2. Neap tides: at a right angle.
   - weaker by about a third
   - twice a month

> Time and tide wait for no man.

- [x] read the table
- [ ] sail at high water

More at [the almanac](https://almanac.example/tides "tides"). ![dot](data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7)
"""

CODE = """A sounding is a binary search:

```python
def depth(line, touches):
    \"\"\"Least length of line that touches the ground.

    Two lines of text in a string.\"\"\"
    low, high = 0, len(line)
    while low < high:  # halves each time
        middle = (low + high) // 2
        low, high = (low, middle) if touches(middle) else (middle + 1, high)
    return low
```

The same in a makefile, with its tab:

```make
all:
\tc++ -O2 depth.cpp
```

1. In a list:

   ```cpp
   int main() { return depth(); }
   ```
"""

MATHS = r"""The tidal height is a sum of cosines,

$$
h(t) = h_0 + \sum_{k=1}^{n} A_k \cos(\omega_k t + \varphi_k), \qquad \omega_{M_2} = \frac{2\pi}{12.42\,\mathrm{h}}
$$

where $A_k$ is the amplitude and \(\varphi_k\) the phase. The largest part is

\[ \left|\frac{A_{S_2}}{A_{M_2}}\right| \approx 0.46 \]

Charts cost $5 or $10, which is not a formula.
"""

SCRIPT = """Harmless words.

<script>window.hacked = 1</script><img src=x onerror="window.hacked = 2"><svg onload="window.hacked = 3"></svg>
<a href="javascript:window.hacked=4">one</a> [two](javascript:window.hacked=5) <iframe srcdoc="<script>parent.hacked=6</script>"></iframe>
<form action="https://elsewhere.example/"><input name="key"></form><style>body { display: none }</style>
<div id="composer" class="trouble" style="position:fixed;inset:0">over everything</div>

![picture](https://elsewhere.example/pixel.png) <img src="https://elsewhere.example/pixel2.png">

$\\href{javascript:window.hacked=7}{x}$ $\\includegraphics{https://elsewhere.example/p3.png}$ $\\htmlStyle{color:red}{y}$

```html"><script>window.hacked=8</script>
<script>window.hacked = 9</script>
```

<math><mtext><table><mglyph><style><img src=x onerror="window.hacked=10"></style></mglyph></table></mtext></math>

The end.
"""

THOUGHTS = "The reader wants **the shorter** of two routes. Route A has $3$ legs, so B."
ANSWERS = {
    "markdown": MARKDOWN, "code": CODE, "maths": MATHS, "script": SCRIPT, "think": "Take route **B**.",
    "slow": "Slowly, " * 400, "long": "\n\n".join(f"Paragraph {i} with **bold** and `code` in it, which goes on for a while." for i in range(600)),
    "cut": "The line broke in the mid",
}
STORY = (" who had never seen the sea. Every evening he climbed the hill and looked to the west, where the sky was red, and he "
         "thought that it must be there.\n\n\"It is a long way,\" said the owl, \"and nobody has come back to tell of it.\"\n\n"
         "But the little fox had made up his mind, and in the morning he was gone.")


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def send(self, status, body, content_type="application/json", **headers):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)

    def refuse(self, status, message, code, **headers):
        self.send(status, {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": code}}, **headers)

    def allowed(self):
        key = self.server.mock.key
        if not key or self.headers.get("Authorization") == f"Bearer {key}":
            return True
        self.refuse(401, "Wrong API key.", "invalid_api_key")
        return False

    def do_GET(self):
        path = self.path.split("?")[0].lstrip("/") or "index.html"
        if path == "v1/models":
            if self.allowed():
                self.send(200, {"object": "list", "data": self.server.mock.models})
            return
        mock = self.server.mock
        file = mock.files.get(path) or (ROOT / "web" / path if "/" not in path else None)
        if not file or not file.is_file():
            return self.send(404, {"error": {"message": f"no {path}", "code": "not_found"}})
        self.send(200, file.read_bytes(), TYPES[file.suffix], Content_Security_Policy=mock.policy, Cache_Control="no-cache")

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not self.allowed():
            return
        mock = self.server.mock
        mock.requests.append((self.path, body))
        if self.path == "/v1/completions":
            return self.stream(body, "", STORY, text=True)
        if body["model"] == "mock-surprise":
            return self.refuse(400, "The model has no chat template.", "completion_only")
        asked = body["messages"][-1]["content"].split("\n")[-1].split()[0].lower()
        if asked == "busy" and mock.busy > 0:
            mock.busy -= 1
            return self.refuse(429, "Too many requests.", "rate_limit_exceeded", Retry_After="2")
        if asked == "toolong":
            return self.refuse(400, "This model's maximum context length is 4096 tokens; 5000 were sent.", "context_length_exceeded")
        answer = ANSWERS.get(asked, f"You said: {body['messages'][-1]['content']}")
        self.stream(body, THOUGHTS if asked == "think" else "", answer, cut=asked == "cut", pause=0.02 if asked in ("slow", "cut") else None)

    def stream(self, body, thoughts, answer, text=False, cut=False, pause=None):
        mock = self.server.mock
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

        def chunk(data):
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
            self.wfile.flush()

        def event(choices, **more):
            made = {"id": "mock-1", "object": "chat.completion.chunk", "created": 1, "model": body["model"], "choices": choices, **more}
            chunk(f"data: {json.dumps(made)}\n\n".encode())

        def part(field, words, finish=None):
            inner = {"text": words} if text else {"delta": {field: words} if words else {}}
            event([{"index": 0, **inner, "finish_reason": finish}])

        pieces = re.findall(r"\s*\S{1,7}|\s+$", answer)
        try:
            chunk(b": keep-alive\n\n")
            for field, words in (("reasoning_content", re.findall(r"\s*\S+", thoughts)), ("content", pieces)):
                for piece in words:
                    part(field, piece)
                    time.sleep(pause or mock.pause)
            if cut:
                self.close_connection = True
                return
            part("content", "", "length" if text else "stop")
            prompt = len(json.dumps(body.get("messages", body.get("prompt")))) // 4
            event([], usage={
                "prompt_tokens": prompt, "completion_tokens": len(pieces), "total_tokens": prompt + len(pieces),
                "prompt_cache_hit_tokens": prompt // 2, "prompt_cache_miss_tokens": prompt - prompt // 2,
                "completion_tokens_details": {"accepted_prediction_tokens": 62, "rejected_prediction_tokens": 14},
            })
            chunk(b"data: [DONE]\n\n")
            chunk(b"")
        except (BrokenPipeError, ConnectionResetError):
            mock.gone += 1
            self.close_connection = True


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def get_request(self):
        connection, address = super().get_request()
        self.mock.connections.append(connection)
        return connection, address


class Mock:
    def __init__(self, key="", port=0, pause=0.004, models=("mock-chat", "mock-story", "mock-surprise"), policy=True):
        self.key, self.pause = key, pause
        self.models = [{"id": m, "object": "model", "max_model_len": 4096, "completion_only": m == "mock-story"} for m in models]
        self.files, self.policy = libraries(), page_policy() if policy else ""
        self.requests = []  # (path, body)
        self.busy = 0       # so many answers of 429 to "busy"
        self.connections = []
        self.gone = 0       # clients that went before the end
        self.server = Server(("127.0.0.1", port), Handler)
        self.server.mock = self
        self.port = self.server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        for connection in self.connections:  # those that are kept alive
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self.server.server_close()


if __name__ == "__main__":  # to look at the page by hand
    mock = Mock(port=8099, pause=0.02)
    print(mock.url)
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        pass
