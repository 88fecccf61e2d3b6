"""Starts `fathom serve` for a test on a free port and stops it; what test programs share.

The environment names the program and the project: FATHOM_BINARY, FATHOM_SOURCE_DIR. With FATHOM_URL a server that runs
already is used instead (its options are then what they are).
"""
import contextlib
import http.client
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

SOURCE = pathlib.Path(os.environ.get("FATHOM_SOURCE_DIR", pathlib.Path(__file__).resolve().parents[2]))
BINARY = pathlib.Path(os.environ.get("FATHOM_BINARY", SOURCE / "build/release/fathom"))
MODEL = SOURCE / "models/fathom-16m"
START_SECONDS = 120  # a sanitized build on a busy machine
SKIPPED = 77


def skip(reason):
    """The form that tools/skipped.awk reads from ctest's output."""
    print(f"{pathlib.Path(sys.argv[0]).name}: Skipped\n{reason}\n")
    raise SystemExit(SKIPPED)


def free_port():
    with contextlib.closing(socket.socket()) as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Server:
    """fathom serve MODEL and options; a context manager that checks that it ends with 0 after SIGTERM."""

    def __init__(self, *options, model=MODEL, environment=None):
        self.options, self.model = [str(o) for o in options], model
        self.environment = {**os.environ, **(environment or {})}
        self.process = None
        self.port = 0
        self.log = None

    def __enter__(self):
        url = os.environ.get("FATHOM_URL")
        if url:
            self.port = int(url.rstrip("/").rpartition(":")[2])
            return self
        self.port = free_port()
        self.log = tempfile.TemporaryFile(mode="w+")
        model = [str(self.model)] if self.model else []  # the configuration names it
        command = [str(BINARY), "serve", *model, "--port", str(self.port), *self.options]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
                                        env=self.environment)
        deadline = time.monotonic() + START_SECONDS
        while True:
            if self.process.poll() is not None:
                raise SystemExit(f"{' '.join(command)} ended with {self.process.returncode}:\n{self.output()}")
            with contextlib.suppress(OSError, http.client.HTTPException):
                if self.get("/health")[0] == 200:
                    return self
            if time.monotonic() > deadline:
                self.process.kill()
                raise SystemExit(f"{' '.join(command)} was not ready after {START_SECONDS} s:\n{self.output()}")
            time.sleep(0.05)

    def __exit__(self, kind, error, trace):
        if not self.process:
            return
        ended = self.process.poll()
        if ended is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                ended = self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                ended = "not ended 60 s after SIGTERM"
        if ended != 0 or kind is not None:
            print(f"the server's exit code: {ended}; its output:\n{self.output()[-8000:]}", flush=True)
        self.log.close()
        if ended != 0 and kind is None:
            raise AssertionError(f"the server's exit code is {ended}")

    def output(self):
        self.log.seek(0)
        return self.log.read()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def call(self, method, path, body=None, headers=None, timeout=120):
        """(status, headers, body bytes) of one request."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        with contextlib.closing(connection):
            data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
            connection.request(method, path, data, {"Content-Type": "application/json", **(headers or {})})
            response = connection.getresponse()
            return response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()

    def get(self, path, headers=None):
        return self.call("GET", path, headers=headers)

    def post(self, path, body, headers=None):
        status, head, data = self.call("POST", path, body, headers)
        return status, json.loads(data) if "json" in head.get("content-type", "") else data

    def metrics(self):
        from http_stream import metrics_of
        return metrics_of(self.get("/metrics")[2].decode())

    def resident_bytes(self):
        """Its own memory: the mapped model comes and goes as the system likes."""
        if not self.process:
            return 0
        for line in pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
        return 0

    def open_files(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd")) if self.process else 0

    def wait_idle(self, seconds=20):
        """Until nothing runs or waits; the metrics then. Raises AssertionError if that does not come."""
        deadline = time.monotonic() + seconds
        while True:
            now = self.metrics()
            busy = {name: now[name] for name in BUSY_GAUGES if now.get(name, 0) != 0}
            missing = [name for name in BUSY_GAUGES if name not in now]
            if missing:
                raise AssertionError(f"/metrics has no {missing}")
            if not busy:
                return now
            if time.monotonic() > deadline:
                raise AssertionError(f"still {busy} after {seconds} s without requests")
            time.sleep(0.05)


BUSY_GAUGES = ("fathom:num_requests_running", "fathom:num_requests_waiting")


@contextlib.contextmanager
def model_without_template():
    """The shipped model, but tokenizer_config.json has no chat template."""
    with tempfile.TemporaryDirectory() as folder:
        copy = pathlib.Path(folder) / "plain"
        copy.mkdir()
        for file in MODEL.iterdir():
            if file.name == "tokenizer_config.json":
                config = json.loads(file.read_text())
                config.pop("chat_template", None)
                (copy / file.name).write_text(json.dumps(config))
            elif file.suffix == ".safetensors":
                (copy / file.name).symlink_to(file)
            else:
                shutil.copy(file, copy / file.name)
        yield copy
