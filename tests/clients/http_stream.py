"""HTTP/1.1 over asyncio with the standard library alone: one request a connection, answers whole or as server-sent
events with the time of each. For load and faults, where a client library would be the bottleneck or too well-behaved.
"""
import asyncio
import json
import time
import urllib.parse


class Answer:
    """What came back. events: (seconds since the request began, parsed JSON) of a stream, without [DONE]."""

    def __init__(self):
        self.status = 0
        self.headers = {}
        self.body = b""
        self.events = []
        self.comments = 0
        self.done = False  # a stream ended with [DONE]
        self.dropped = False  # the client went away on purpose
        self.seconds = 0.0

    def json(self):
        return json.loads(self.body)

    def choices(self):
        return [(at, choice) for at, event in self.events for choice in event.get("choices", [])]

    def text(self, index=0):
        mine = [choice for _, choice in self.choices() if choice["index"] == index]
        return "".join(c["text"] if "text" in c else (c["delta"].get("content") or "") for c in mine)

    def usage(self):
        found = [event["usage"] for _, event in self.events if event.get("usage")]
        return found[-1] if found else None


class Target:
    """A server: http://host:port, and the headers of each request."""

    def __init__(self, url, api_key=None, prefix="/v1"):
        parts = urllib.parse.urlsplit(url)
        self.host, self.port = parts.hostname, parts.port or 80
        self.prefix = parts.path.rstrip("/") or prefix
        self.headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}

    async def request(self, method, path, body=None, drop_after=None, timeout=600, headers=None):
        """drop_after: the connection is cut when so many events have come (0: as soon as the request is sent)."""
        answer = Answer()
        start = time.perf_counter()
        try:
            await asyncio.wait_for(self._exchange(answer, start, method, path, body, drop_after, headers or {}), timeout)
        finally:
            answer.seconds = time.perf_counter() - start
        return answer

    async def _exchange(self, answer, start, method, path, body, drop_after, headers):
        reader, writer = await asyncio.open_connection(self.host, self.port, limit=1 << 24)
        try:
            data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
            head = {"Host": f"{self.host}:{self.port}", "Content-Type": "application/json",
                    "Content-Length": str(len(data)), "Connection": "close", **self.headers, **headers}
            lines = [f"{method} {path} HTTP/1.1", *(f"{k}: {v}" for k, v in head.items())]
            writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + data)
            await writer.drain()
            if drop_after == 0:
                answer.dropped = True
                return
            await self._read(answer, start, reader, drop_after)
        finally:
            if answer.dropped:
                writer.transport.abort()
            else:
                writer.close()

    async def _read(self, answer, start, reader, drop_after):
        answer.status = int((await reader.readuntil(b"\r\n")).split()[1])
        while True:
            line = (await reader.readuntil(b"\r\n")).decode("latin-1").strip()
            if not line:
                break
            name, _, value = line.partition(":")
            answer.headers[name.strip().lower()] = value.strip()
        stream = "text/event-stream" in answer.headers.get("content-type", "")
        pending = b""
        async for piece in self._pieces(answer, reader):
            if not stream:
                answer.body += piece
                continue
            pending += piece
            *complete, pending = pending.split(b"\n\n")
            at = time.perf_counter() - start
            for event in complete:
                self._event(answer, at, event)
                if drop_after is not None and len(answer.events) >= drop_after:
                    answer.dropped = True
                    return

    @staticmethod
    async def _pieces(answer, reader):
        if answer.headers.get("transfer-encoding", "").lower() != "chunked":
            length = answer.headers.get("content-length")
            if length is not None:
                yield await reader.readexactly(int(length))
                return
            while piece := await reader.read(1 << 16):
                yield piece
            return
        while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            yield await reader.readexactly(size)
            await reader.readexactly(2)
        await reader.readuntil(b"\r\n")

    @staticmethod
    def _event(answer, at, event):
        for line in event.split(b"\n"):
            line = line.rstrip(b"\r")
            if line.startswith(b":"):
                answer.comments += 1
            elif line.startswith(b"data:"):
                data = line[5:].strip()
                if data == b"[DONE]":
                    answer.done = True
                else:
                    answer.events.append((at, json.loads(data)))

    async def completion(self, body, **options):
        return await self.request("POST", self.prefix + "/completions", body, **options)

    async def chat(self, body, **options):
        return await self.request("POST", self.prefix + "/chat/completions", body, **options)


def metrics_of(text):
    """Prometheus text: {name: sum over its labels}."""
    values = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            name = name.split("{")[0]
            values[name] = values.get(name, 0.0) + float(value)
    return values
