"""The gateway as a process: lifeline, signals, draining."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.loopback import KEY, PATIENCE_S, Client, FakeControl, endpoint, key, run, until, worker
from gateway.wire import Asked, answer
from stoker.link.messages import Report, Snapshot
from stoker.paths import Paths

pytestmark = pytest.mark.process


class Role:
    """A gateway process, its socket and its lifeline."""

    def __init__(self, folder: Path) -> None:
        self.paths = Paths(folder)
        self.paths.run.mkdir(parents=True, exist_ok=True)
        self.listening = socket.socket()
        self.listening.bind(("127.0.0.1", 0))
        self.listening.listen(16)
        self.port: int = self.listening.getsockname()[1]
        reading, self.lifeline = os.pipe()
        command = [sys.executable, "-m", "stoker.gateway.main", "--data-dir", str(folder)]
        command += ["--listen-fd", str(self.listening.fileno()), "--lifeline-fd", str(reading)]
        self.process = subprocess.Popen(command, pass_fds=(self.listening.fileno(), reading))
        os.close(reading)

    async def connect(self) -> Client:
        """A client."""
        return Client(*await asyncio.open_connection("127.0.0.1", self.port))

    async def ended(self) -> int:
        """Its exit status."""
        await until(lambda: self.process.poll() is not None)
        return self.process.returncode

    def end(self, how: str) -> None:
        """Ask it to drain."""
        if how == "signal":
            self.process.send_signal(signal.SIGTERM)
        elif how == "line":
            os.write(self.lifeline, b"drain\n")
        else:
            os.close(self.lifeline)
            self.lifeline = -1

    def close(self) -> None:
        """End it at the latest now."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(PATIENCE_S)
        if self.lifeline >= 0:
            os.close(self.lifeline)
        self.listening.close()


@pytest.mark.parametrize("how", ["signal", "line", "end"])
def test_it_finishes_what_goes_on_and_accepts_nothing_more(tmp_path: Path, how: str) -> None:
    go = asyncio.Event()

    async def script(asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await go.wait()
        writer.write(answer())

    async def main() -> None:
        control = FakeControl()
        async with worker(script) as w:
            role = Role(tmp_path)
            try:
                control.snapshot = Snapshot(1, (endpoint(w.entry()),), (key(),))
                await control.open(role.paths.link_socket)
                await until(lambda: control.acked)
                busy, quiet = await role.connect(), await role.connect()
                await quiet.send("GET", "/healthz")
                assert (await quiet.reply()).status == 200
                await busy.send("GET", "/e/chat/x", secret=KEY)
                await until(lambda: w.asked)
                role.process.send_signal(signal.SIGINT)
                role.end(how)
                assert await quiet.ended() == b""
                late = await role.connect()
                await late.send("GET", "/healthz")
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(late.reader.read(1), 0.2)
                assert role.process.poll() is None
                go.set()
                reply = await busy.reply()
                assert (reply.status, reply.body, reply.header("Connection")) == (200, b"fine", "close")
                busy.close()
                assert await role.ended() == 0
                # What ended a moment before the gateway did is counted, too.
                await until(lambda: sum(u.requests for r in control.all(Report) for u in r.usage) == 1)
                for client in (busy, quiet, late):
                    client.close()
            finally:
                role.close()
                await control.close()

    run(main)


def test_connections_that_come_while_nobody_serves_are_not_refused(tmp_path: Path) -> None:
    async def main() -> None:
        role = Role(tmp_path)
        early = await role.connect()
        try:
            await early.send("GET", "/healthz", "Connection: close")
            assert (await early.reply()).status == 200
            role.end("end")
            assert await role.ended() == 0
        finally:
            early.close()
            role.close()

    run(main)


def test_what_a_killed_gateway_left_is_removed_and_what_a_leaving_one_has_is_kept(tmp_path: Path) -> None:
    paths = Paths(tmp_path)
    paths.run.mkdir(parents=True)
    leaving, killed = (socket.socket(socket.AF_UNIX) for _ in range(2))
    for listening, name in ((leaving, "aaaaaa"), (killed, "bbbbbb")):
        listening.bind(str(paths.attempts_socket(name)))
        (paths.attempts / name).mkdir(parents=True)
    leaving.listen(1)
    killed.close()

    async def main() -> None:
        role = Role(tmp_path)
        try:
            client = await role.connect()
            await client.send("GET", "/healthz", "Connection: close")
            assert (await client.reply()).status == 200
            client.close()
            left = {path.name for path in (*paths.run.glob("a-*.sock"), *paths.attempts.iterdir())}
            assert {"a-aaaaaa.sock", "aaaaaa"} <= left
            assert not {"a-bbbbbb.sock", "bbbbbb"} & left
        finally:
            role.close()

    run(main)
    leaving.close()
