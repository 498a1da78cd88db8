"""A registry of one image on loopback, which wants a log-in; Docker speaks plain HTTP with it there."""

from __future__ import annotations

import base64
import contextlib
import gzip
import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

_TYPES = "application/vnd.docker.distribution.manifest.v2+json"


@dataclass
class Registry:
    """`layers_sent` counts how often the layer was fetched whole."""

    host: str
    password: str
    blobs: dict[str, tuple[str, bytes]]
    layers_sent: int = 0


@contextlib.contextmanager
def registry(archive: Path) -> Iterator[Registry]:
    """Serves the archive of a root file system as `mine:1`, to `me`."""
    served = Registry("", "a password of tests", _image(archive))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = "Basic " + base64.b64encode(f"me:{served.password}".encode()).decode()
            name = self.path.rsplit("/", 1)[-1]
            if self.headers.get("Authorization") != wanted:
                self._answer(401, b"{}", "application/json")
            elif self.path == "/v2/":
                self._answer(200, b"{}", "application/json")
            elif name not in served.blobs:
                self._answer(404, b"{}", "application/json")
            else:
                kind, data = served.blobs[name]
                served.layers_sent += kind == "layer"
                self._answer(200, data, _TYPES if kind == "manifest" else "application/octet-stream")

        do_HEAD = do_GET

        def _answer(self, status: int, data: bytes, kind: str) -> None:
            self.send_response(status)
            if status == 401:
                self.send_header("WWW-Authenticate", 'Basic realm="tests"')
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("Docker-Content-Digest", _digest(data))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served.host = f"127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _image(archive: Path) -> dict[str, tuple[str, bytes]]:
    """Its parts by digest, and its manifest by its tag, each with its kind."""
    layer = gzip.compress(archive.read_bytes(), 1)
    diff = "sha256:" + hashlib.sha256(archive.read_bytes()).hexdigest()
    config = json.dumps(
        {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": [diff]}}
    ).encode()
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": _TYPES,
            "config": _described("application/vnd.docker.container.image.v1+json", config),
            "layers": [_described("application/vnd.docker.image.rootfs.diff.tar.gzip", layer)],
        }
    ).encode()
    parts = (("config", config), ("layer", layer), ("manifest", manifest))
    return {**{_digest(data): (kind, data) for kind, data in parts}, "1": ("manifest", manifest)}


def _digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def _described(kind: str, data: bytes) -> dict[str, object]:
    return {"mediaType": kind, "size": len(data), "digest": _digest(data)}
