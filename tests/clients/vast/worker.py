"""A PyWorker as its users write one, of Vast.ai's own package, in whose environment it runs as a worker of Stoker's.

worker.py toy                  before a model server that answers at once
worker.py llama PYTHON MODEL   before llama.cpp, started by that Python
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

LOADED = "model is loaded"
# A request of the usual cost takes so long: a worker's perf is about 1000.
WORK_S = 0.1


class Toy(BaseHTTPRequestHandler):
    """The model: `/echo` and `/v1/completions` repeat, `/stream` counts, `/busy` is, `/refuse` does."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(200, {"ok": True})

    def do_POST(self) -> None:
        payload = json.loads(self.rfile.read(int(self.headers["content-length"])) or b"{}")
        if self.path == "/stream":
            self._stream()
        elif self.path == "/busy":
            self._answer(429, {"error": "busy"})
        elif self.path == "/refuse":
            self._answer(422, {"error": "no such prompt"})
        else:
            threading.Event().wait(WORK_S)
            self._answer(200, {"echo": payload, "container": os.environ["CONTAINER_ID"]})

    def _stream(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        for number in range(3):
            self.wfile.write(b"data: %s\n\n" % json.dumps({"n": number}).encode())
        self.wfile.write(b"data: [DONE]\n\n")

    def _answer(self, status: int, value: Any) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


def toy(log: Path) -> int:
    """Serve the toy; its port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Toy)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    log.write_text(f"{LOADED}\n")
    return int(server.server_address[1])


def llama(log: Path, python: str, model: str) -> int:
    """Start llama.cpp, which is ended with this process's group; its port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    command = [python, "-m", "stoker.engines.llamacpp_server", "--model", model, "--port", str(port), "--slots", "1"]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    subprocess.Popen(command, env=environ)
    # The package looks whether a model is well every ten seconds, the first time at once.
    _wait(port)
    log.write_text(f"{LOADED}\n")
    return port


def _wait(port: int) -> None:
    from urllib.error import URLError
    from urllib.request import urlopen

    while True:
        try:
            with urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
                if answer.status == 200:
                    return
        except (URLError, OSError):
            threading.Event().wait(0.05)


def main() -> None:
    from vastai import BenchmarkConfig, HandlerConfig, LogActionConfig, Worker, WorkerConfig

    log = Path("model.log").absolute()
    kind, *arguments = sys.argv[1:]
    port = toy(log) if kind == "toy" else llama(log, *arguments)
    benchmark = BenchmarkConfig(
        generator=lambda: {"prompt": "Hello", "max_tokens": 1}, runs=1, concurrency=1, do_warmup=False
    )
    more = ("/echo", "/stream", "/busy", "/refuse") if kind == "toy" else ("/v1/chat/completions",)
    config = WorkerConfig(
        model_server_url="http://127.0.0.1",
        model_server_port=port,
        model_log_file=str(log),
        model_healthcheck_url="/health",
        handlers=[
            HandlerConfig(
                route="/v1/completions",
                allow_parallel_requests=True,
                workload_calculator=lambda _: 100.0,
                benchmark_config=benchmark,
            ),
            *(
                HandlerConfig(route=route, allow_parallel_requests=True, workload_calculator=lambda _: 100.0)
                for route in more
            ),
        ],
        log_action_config=LogActionConfig(on_load=[LOADED]),
    )
    Worker(config).run(host="127.0.0.1")


if __name__ == "__main__":
    main()
