"""The step before a worker fetches into a cache that others read: once, whoever asks, and by the rules of Stoker."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from models.hub import REPO, Hub, hub
from providers.workers import until
from stoker.domain.addresses import UrlRules
from stoker.domain.fetching import TOKEN_VARIABLE, VARIABLE, ModelFetch, StepLine, order
from stoker.domain.models import FetchFailed, ModelSource, SourceKind, WeightsKey
from stoker.models.step import Step, step
from stoker.net import GuardedSession

KEY = WeightsKey("b" * 32)
BODY = os.urandom(3_000_000)
LOOPBACK = UrlRules.parse(["127.0.0.0/8"])


def fetch(hub: Hub, *, file: str | None = "*.gguf", rules: UrlRules = LOOPBACK, **more: Any) -> ModelFetch:
    source = ModelSource(kind=SourceKind.HUGGINGFACE, location=REPO, file=file)
    return ModelFetch(key=KEY, name="tiny", source=source, sha256=None, hub=hub.url, rules=rules, **more)


class Cache:
    """A cache, the hub, and what steps have said."""

    def __init__(self, folder: Path, hub: Hub) -> None:
        self.folder, self.hub, self.said = folder, hub, list[StepLine]()

    async def step(self, wanted: ModelFetch | None = None, *, token: str | None = None) -> int:
        """One that is told by its environment."""
        environ = {VARIABLE: order(wanted or fetch(self.hub), folder=str(self.folder))}
        return await step(environ | ({} if token is None else {TOKEN_VARIABLE: token}), tell=self.said.append)

    @property
    def states(self) -> list[str]:
        """What was said, each once in a row."""
        found = [line.state for line in self.said]
        return [state for number, state in enumerate(found) if number == 0 or found[number - 1] != state]


def run(tmp_path: Path, files: dict[str, bytes], body: Callable[[Cache], Awaitable[None]], **more: Any) -> None:
    async def main() -> None:
        async with hub(files, **more) as served:
            await body(Cache(tmp_path / "cache", served))

    asyncio.run(asyncio.wait_for(main(), 100))


def test_weights_come_once_and_anybody_may_read_them(tmp_path: Path) -> None:
    async def body(cache: Cache) -> None:
        assert await cache.step() == 0
        link = cache.folder / fetch(cache.hub).place
        assert link.read_bytes() == BODY
        modes = [path.stat().st_mode & 0o777 for path in (link, link.parent, link.resolve().parent)]
        assert modes == [0o644, 0o755, 0o755]
        assert cache.states == ["fetching", "ready"]
        sent = cache.hub.sent
        assert await cache.step() == 0
        assert (cache.hub.sent, cache.states) == (sent, ["fetching", "ready"])

    run(tmp_path, {"deep/tiny-Q4.gguf": BODY}, body)


def test_of_two_steps_at_once_one_fetches_and_the_other_waits(tmp_path: Path) -> None:
    async def body(cache: Cache) -> None:
        assert sum(await asyncio.gather(cache.step(), cache.step())) == 0
        assert cache.hub.sent == len(BODY)
        assert {line.state for line in cache.said} == {"fetching", "waiting", "ready"}

    run(tmp_path, {"tiny.gguf": BODY}, body)


def test_a_repository_is_a_folder_at_a_place_that_is_known_beforehand(tmp_path: Path) -> None:
    async def body(cache: Cache) -> None:
        wanted = fetch(cache.hub, file=None)
        assert await cache.step(wanted) == 0
        assert (cache.folder / wanted.place / "config.json").read_bytes() == b"{}"

    run(tmp_path, {"model.safetensors": b"weights", "config.json": b"{}"}, body)


def test_what_breaks_off_is_gone_on_with(tmp_path: Path) -> None:
    async def body(cache: Cache) -> None:
        session = GuardedSession(LOOPBACK)
        made = Step(fetch(cache.hub), cache.folder, session, tell=cache.said.append, pause_s=0.01)
        try:
            assert (await made.run()).read_bytes() == BODY
        finally:
            await session.close()
        assert len(cache.hub.ranged) == 2
        assert cache.states == ["fetching", "ready"]

    run(tmp_path, {"tiny.gguf": BODY}, body, cut_after=[1_100_000, 1_100_000])


def test_a_source_that_gets_no_further_is_given_up_for_now(tmp_path: Path) -> None:
    async def body(cache: Cache) -> None:
        session = GuardedSession(LOOPBACK)
        made = Step(fetch(cache.hub), cache.folder, session, tell=cache.said.append, pause_s=0.0)
        try:
            with pytest.raises(FetchFailed, match="answers 503") as failed:
                await made.run()
        finally:
            await session.close()
        assert not failed.value.permanent

    run(tmp_path, {"tiny.gguf": BODY}, body, statuses=[(503, {"Retry-After": "0"})] * 100)


def test_the_token_goes_to_the_hub_and_its_lack_is_said(tmp_path: Path) -> None:
    async def body(cache: Cache) -> None:
        assert await cache.step() == 2
        assert "it needs a token" in cache.said[-1].error
        assert await cache.step(token="hf_secret") == 0
        assert "hf_secret" not in repr(cache.said)

    run(tmp_path, {"tiny.gguf": BODY}, body, token="hf_secret")


def test_private_addresses_are_opened_only_where_the_rules_say_so(tmp_path: Path) -> None:
    async def body(cache: Cache) -> None:
        assert await cache.step(fetch(cache.hub, rules=UrlRules())) == 2
        assert "127.0.0.1 is not a public address" in cache.said[-1].error
        assert cache.hub.authorisations == []

    run(tmp_path, {"tiny.gguf": BODY}, body)


def test_a_split_file_is_refused_since_nobody_knows_its_name_beforehand(tmp_path: Path) -> None:
    async def body(cache: Cache) -> None:
        assert await cache.step() == 2
        assert "split into 2 files" in cache.said[-1].error

    run(tmp_path, {"big-00001-of-00002.gguf": b"one", "big-00002-of-00002.gguf": b"two"}, body)


def test_an_environment_that_says_nothing_is_told() -> None:
    said: list[StepLine] = []
    assert asyncio.run(step({}, tell=said.append)) == 2
    assert VARIABLE in said[0].error


@pytest.mark.process
def test_as_a_program_it_ends_when_told_and_goes_on_later(tmp_path: Path) -> None:
    async def body(cache: Cache) -> None:
        environ = os.environ | {VARIABLE: order(fetch(cache.hub), folder=str(cache.folder))}
        command = [sys.executable, "-m", "stoker.models.step"]
        first = await asyncio.create_subprocess_exec(*command, env=environ, stdout=subprocess.PIPE)
        part = cache.folder / KEY / "parts" / "tiny.gguf.part"

        async def half() -> bool:
            return part.exists() and part.stat().st_size >= 1_048_576

        await until(half, what="a part of it")
        first.send_signal(signal.SIGTERM)
        assert await first.wait() == 128 + signal.SIGTERM
        second = await asyncio.create_subprocess_exec(*command, env=environ, stdout=subprocess.PIPE)
        said, _ = await second.communicate()
        assert second.returncode == 0
        assert StepLine.read(said.decode().splitlines()[-1]) == StepLine("ready")
        assert len(cache.hub.ranged) == 1

    run(tmp_path, {"tiny.gguf": BODY}, body, stall_after=2_000_000)
