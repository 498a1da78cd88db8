"""Starting workers as real processes: once, whoever dies meanwhile, and with nothing of Stoker's own in them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import uvloop

from providers.workers import (
    LASTING,
    PORTS,
    command,
    ended,
    lines,
    observed,
    owner,
    processes,
    python,
    run,
    said,
    shell,
    spec,
    texts,
    until_true,
)
from stoker.domain.errors import Invalid, Unavailable
from stoker.domain.worker import WorkerId, WorkerSpec
from stoker.providers.base import ProviderOptions
from stoker.providers.process import PASSED_ON, ProcessProvider, connect
from stoker.providers.shim import descendants

pytestmark = pytest.mark.process

# What a control does that gets this far: another process with a provider of its own.
STARTING = """
import asyncio, os, signal, sys
from pathlib import Path
from stoker.domain.endpoint import EndpointId
from stoker.domain.hardware import PortRange
from stoker.domain.worker import WorkerId, WorkerSpec
from stoker.providers.process import ProcessProvider
from stoker.providers.shim import descendants

async def main(folder, mode, script, *names):
    provider = ProcessProvider(Path(folder), ports=PortRange(20000, 29999), log_bytes=1_000_000, workers_kept=10)
    print("ready", flush=True)
    sys.stdin.readline()
    specs = [WorkerSpec(id=WorkerId(n), endpoint=EndpointId("e"), name=n, command=("sh", "-c", script)) for n in names]
    starts = asyncio.gather(*(provider.start(spec) for spec in specs))
    while mode == "die":
        await asyncio.sleep(0)
        if descendants(os.getpid()):
            os.kill(os.getpid(), signal.SIGKILL)
    await starts

asyncio.run(main(*sys.argv[1:]))
"""


def another(folder: Path, mode: str, script: str, *names: str) -> subprocess.Popen[bytes]:
    """Another process that is about to start these workers: it does when it is sent a line."""
    argv = [sys.executable, "-c", STARTING, str(folder / "workers"), mode, script, *names]
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


async def environ_of(provider: ProcessProvider, what: WorkerSpec) -> dict[str, str]:
    await provider.start(what)
    assert (await ended(provider, what.id)).code == 0
    found = json.loads("".join(await texts(provider, what.id)))
    assert isinstance(found, dict)
    return found


def telling_environ(name: str, **more: object) -> WorkerSpec:
    return python(name, "import json, os; print(json.dumps(dict(os.environ)))", **more)


def test_a_command_learns_its_address_and_nothing_of_stokers_own_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STOKER_MASTER_KEY", "secret")
    monkeypatch.setenv("SOMETHING_ELSE", "private")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    monkeypatch.setenv("HF_HOME", "/models")

    async def main() -> None:
        async with processes(tmp_path) as provider:
            environ = await environ_of(provider, telling_environ("a", port=20_123, env={"MINE": "1", "HOST": "x"}))
            assert (environ["HOST"], environ["PORT"]) == ("127.0.0.1", "20123")
            assert (environ["MINE"], environ["HF_HOME"], environ["PATH"]) == ("1", "/models", os.environ["PATH"])
            assert environ["STOKER_WORKER_ID"] == "a"
            own = {"STOKER_WORKER_ID", "STOKER_WORKER_FOLDER", "CUDA_VISIBLE_DEVICES", "PYTHONUNBUFFERED"}
            # Python adds the one of these where no locale is set.
            assert set(environ) <= {*PASSED_ON, *own, "MINE", "HOST", "PORT", "LC_CTYPE"}

    run(main())


def test_a_worker_sees_the_cards_it_was_given_and_else_none(tmp_path: Path) -> None:
    async def main() -> None:
        async with processes(tmp_path) as provider:
            given = await environ_of(provider, telling_environ("a", gpus=("GPU-1", "GPU-2")))
            without = await environ_of(provider, telling_environ("b", env={"CUDA_VISIBLE_DEVICES": "0"}))
            assert given["CUDA_VISIBLE_DEVICES"] == "GPU-1,GPU-2"
            assert without["CUDA_VISIBLE_DEVICES"] == ""
            assert "PORT" not in without

    run(main())


def test_what_a_worker_is_told_is_for_its_owner_only(tmp_path: Path) -> None:
    async def main() -> None:
        async with processes(tmp_path) as provider:
            await provider.start(shell("a", LASTING, env={"TOKEN": "secret"}))
            folder = tmp_path / "workers" / "a"
            assert folder.stat().st_mode & 0o777 == 0o700
            files = [entry for entry in folder.iterdir() if entry.is_file()]
            assert {"spec.json", "lock", "started", "log"} <= {entry.name for entry in files}
            assert {entry.stat().st_mode & 0o777 for entry in files} == {0o600}

    run(main())


@pytest.mark.parametrize(
    ("argv", "code", "why"),
    [
        pytest.param(("no-such-command",), 127, "No such file or directory", id="not found"),
        pytest.param(("/etc/passwd",), 126, "Permission denied", id="not executable"),
        pytest.param(("/",), 126, "Permission denied", id="a folder"),
        pytest.param(("sh", "-c", "x" * 200_000), 126, "Argument list too long", id="too long"),
    ],
)
def test_a_command_that_cannot_be_executed_has_ended_with_a_reason(
    tmp_path: Path, argv: tuple[str, ...], code: int, why: str
) -> None:
    async def main() -> None:
        async with processes(tmp_path) as provider:
            await provider.start(spec("a", *argv))
            end = await ended(provider, "a")
            assert (end.code, end.reason) == (code, f"cannot run {argv[0]!r}: {why}")
            [line] = await lines(provider, "a")
            assert (line.stream, line.text) == ("stderr", end.reason)

    run(main())


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(spec("a"), id="no command"),
        pytest.param(spec("a", "sh", "x\0y"), id="NUL in the command"),
        pytest.param(spec("a", "sh", env={"X": "\0"}), id="NUL in the environment"),
        pytest.param(spec("a", "sh", env={"X=Y": "1"}), id="a variable with an equals sign"),
        pytest.param(spec("../a", "sh"), id="an id that leads elsewhere"),
        pytest.param(spec(".gone", "sh"), id="an id that is taken"),
    ],
)
def test_what_can_never_start_is_invalid_and_leaves_nothing(tmp_path: Path, wrong: WorkerSpec) -> None:
    async def main() -> None:
        async with processes(tmp_path) as provider:
            with pytest.raises(Invalid):
                await provider.start(wrong)

    run(main())


def test_a_folder_that_cannot_be_written_may_be_tried_again(tmp_path: Path) -> None:
    async def main() -> None:
        async with processes(tmp_path) as provider:
            in_the_way = tmp_path / "workers" / "a"
            in_the_way.write_text("")
            with pytest.raises(Unavailable, match="exists"):
                await provider.start(shell("a", "echo up"))
            in_the_way.unlink()
            await provider.start(shell("a", "echo up"))
            assert (await ended(provider, "a")).code == 0

    run(main())


def test_a_folder_that_was_prepared_only_is_not_listed_and_runs_when_it_is_started(tmp_path: Path) -> None:
    async def main() -> None:
        async with processes(tmp_path) as provider:
            for name in ("a", "b"):
                folder = tmp_path / "workers" / name
                (folder / "work").mkdir(parents=True)
                (folder / "spec.json").write_text("{}")
            assert await provider.list() == ()
            await provider.start(shell("a", "echo up"))
            assert (await ended(provider, "a")).code == 0
            await provider.stop(WorkerId("b"), grace_s=1.0)
            assert not folder.exists()

    run(main())


def test_starts_from_two_processes_at_one_moment_run_each_worker_once(tmp_path: Path) -> None:
    async def main() -> None:
        async with processes(tmp_path) as provider:
            names = [f"w{number}" for number in range(6)]
            script = f'echo "$STOKER_WORKER_ID" >> {tmp_path}/runs; exec sleep 300'
            others = [another(tmp_path, "live", script, *names) for _ in range(2)]
            for other in others:
                assert other.stdin is not None
                other.stdin.write(b"\n")
                other.stdin.flush()
            for other in others:
                await asyncio.to_thread(other.communicate, timeout=60)
                assert other.returncode == 0
            runs = tmp_path / "runs"
            await until_true(lambda: runs.exists() and len(runs.read_text().split()) >= len(names), what="word of each")
            assert sorted(runs.read_text().split()) == names
            assert sorted(found.id for found in await provider.list() if found.running) == names

    run(main())


def test_a_control_killed_in_the_middle_of_a_start_leaves_one_worker_which_the_next_start_adopts(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with processes(tmp_path) as provider:
            script = f"echo run >> {tmp_path}/runs; echo up; exec sleep 300"
            other = another(tmp_path, "die", script, "a")
            await asyncio.to_thread(other.communicate, b"\n", timeout=60)
            assert other.returncode == -signal.SIGKILL
            # Whether its shim has come far or not.
            await provider.start(shell("a", script))
            found = await observed(provider, "a")
            assert found is not None
            assert found.running
            before = command(tmp_path, "a")
            await provider.start(shell("a", script))
            await said(provider, "a")
            assert command(tmp_path, "a") == before
            assert (tmp_path / "runs").read_text() == "run\n"

    run(main())


def test_a_start_that_was_cancelled_is_adopted_by_the_next(tmp_path: Path) -> None:
    async def main() -> None:
        async with processes(tmp_path) as provider:
            script = f"echo run >> {tmp_path}/runs; {LASTING}"
            first = asyncio.create_task(provider.start(shell("a", script)))
            await until_true(lambda: bool(descendants(os.getpid())) or first.done(), what="shim")
            first.cancel()
            await asyncio.wait([first])
            await provider.start(shell("a", script))
            await said(provider, "a")
            assert (tmp_path / "runs").read_text() == "run\n"

    run(main())


@pytest.mark.parametrize("loop", [pytest.param(asyncio.new_event_loop, id="asyncio"), uvloop.new_event_loop])
def test_nothing_that_stoker_has_open_reaches_a_worker_or_its_shim(tmp_path: Path, loop: object) -> None:
    opened = [os.open(tmp_path, os.O_RDONLY), *os.pipe()]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        opened.append(listener.fileno())
        for descriptor in opened:
            os.set_inheritable(descriptor, True)

        async def main() -> None:
            async with processes(tmp_path) as provider:
                await provider.start(shell("a", "echo up; exec sleep 300"))
                await said(provider, "a")
                assert set(os.listdir(f"/proc/{command(tmp_path, 'a')}/fd")) == {"0", "1", "2"}
                mine = {os.readlink(f"/proc/self/fd/{descriptor}") for descriptor in opened}
                shim = f"/proc/{owner(tmp_path, 'a')}"
                assert not mine & {os.readlink(f"{shim}/fd/{name}") for name in os.listdir(f"{shim}/fd")}
                assert os.readlink(f"{shim}/cwd") == "/"

        try:
            with asyncio.Runner(loop_factory=loop) as runner:  # type: ignore[arg-type]
                runner.run(asyncio.wait_for(main(), 60))
        finally:
            for descriptor in opened[:-1]:
                os.close(descriptor)


def test_signals_that_stoker_ignores_are_not_ignored_by_workers(tmp_path: Path) -> None:
    async def main() -> None:
        async with processes(tmp_path) as provider:
            await provider.start(shell("a", "exec cat /proc/self/status"))
            await ended(provider, "a")
            status = dict(text.split(":\t", 1) for text in await texts(provider, "a") if ":\t" in text)
            # Signals 32 and 33 are the C library's own, which no program can set.
            assert int(status["SigIgn"], 16) & ~(0b11 << 31) == 0
            assert int(status["SigBlk"], 16) == 0

    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        run(main())
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_removal_that_was_interrupted_is_completed_by_the_next_instance(tmp_path: Path) -> None:
    half = tmp_path / "workers" / ".gone" / ".a"
    (half / "work").mkdir(parents=True)
    connect(ProviderOptions(tmp_path, {"ports": PORTS}))
    assert not half.exists()


def test_a_provider_without_ports_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="ports"):
        connect(ProviderOptions(tmp_path, {}))


def test_a_command_beside_a_worker_has_its_environment_and_no_more_time_than_given(tmp_path: Path) -> None:
    async def main() -> None:
        async with processes(tmp_path) as provider:
            await provider.start(shell("a", LASTING, env={"COLOUR": "red"}, port=20_001))
            a = WorkerId("a")
            checked = ("sh", "-c", '[ "$COLOUR" = red ] && [ "$PORT" = 20001 ] || exit 7')
            assert await provider.execute(a, checked, 10.0) == 0
            assert await provider.execute(a, ("sh", "-c", "exit 3"), 10.0) == 3
            with pytest.raises(Unavailable, match="did not end"):
                await provider.execute(a, ("sh", "-c", "sleep 60"), 0.1)
            with pytest.raises(Unavailable, match="cannot run"):
                await provider.execute(a, ("no-such-program",), 10.0)

    run(main())
