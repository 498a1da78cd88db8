"""Weights come to the host, from a hub on loopback: whole, checked, and never twice what is there already."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.hub import REPO, Hub, hub
from stoker.domain.addresses import UrlRules
from stoker.domain.endpoint import ProjectId
from stoker.domain.models import FetchFailed, ModelSource, SourceKind, Weights, WeightsKey, WeightsState
from stoker.models.cache import Cache
from stoker.models.fetcher import HostFetcher, Progress
from stoker.models.transfer import Pace
from stoker.net import GuardedSession

KEY = WeightsKey("a" * 32)
BODY = os.urandom(3_000_000)
GGUF = {"tiny-Q4.gguf": BODY, "tiny-Q8.gguf": b"other", "README.md": b"hello"}


def weights(kind: SourceKind, location: str, *, sha256: str | None = None, **more: Any) -> Weights:
    return Weights(
        key=KEY,
        source=ModelSource(kind=kind, location=location, **more),
        sha256=sha256,
        project=ProjectId(1),
        token_secret=None,
        state=WeightsState.DOWNLOADING,
        asked=True,
        used_at=0.0,
    )


def of_repo(pattern: str | None = "*Q4.gguf", **more: Any) -> Weights:
    return weights(SourceKind.HUGGINGFACE, REPO, file=pattern, **more)


class Host:
    """A cache folder and how to fill it."""

    def __init__(self, root: Path, hub: Hub, session: GuardedSession, *, limit: int | None, pace: float | None) -> None:
        self.hub = hub
        self.cache = Cache(root, bytes_max=limit, reserve_bytes=0)
        self.fetcher = HostFetcher(self.cache, session, hf_endpoint=hub.url, pace=Pace(pace))
        self.asked_room: list[int] = []
        self.progress = Progress()

    async def fetch(self, wanted: Weights, *, token: str | None = None) -> Path:
        self.progress = Progress()
        return await self.fetcher.fetch(wanted, token=token, progress=self.progress, make_room=self._make_room)

    async def _make_room(self, key: WeightsKey, needed: int) -> None:
        self.asked_room.append(needed)


def run(
    root: Path,
    body: Callable[[Host], Awaitable[None]],
    files: dict[str, bytes] | None = None,
    *,
    rules: str | bool = True,
    limit: int | None = None,
    pace: float | None = None,
    **more: Any,
) -> None:
    async def main() -> None:
        async with hub(files or GGUF, **more) as made:
            session = GuardedSession(UrlRules.parse(rules), silence_s=5.0)
            try:
                await body(Host(root, made, session, limit=limit, pace=pace))
            finally:
                await session.close()

    asyncio.run(main())


def files_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_one_file_of_a_repository_is_fetched_by_pattern_and_checked(tmp_path: Path) -> None:
    async def body(host: Host) -> None:
        path = await host.fetch(of_repo())
        assert (path.name, path.read_bytes()) == ("tiny-Q4.gguf", BODY)
        assert [p.name for p in path.parent.iterdir()] == ["tiny-Q4.gguf"], (
            "nothing else of the repository, no leftovers"
        )
        assert (host.progress.done_bytes, host.progress.total_bytes) == (len(BODY), len(BODY))
        assert host.asked_room[0] == len(BODY)
        sent = host.hub.sent
        assert await host.fetch(of_repo()) == path
        assert host.hub.sent == sent, "what is here is not fetched again"

    run(tmp_path, body)


def test_without_a_pattern_an_engines_files_are_fetched_and_the_folder_is_the_model(tmp_path: Path) -> None:
    files = {"model.safetensors": b"w" * 1000, "config.json": b"{}", "pytorch_model.bin": b"again", "sub/x.json": b"1"}

    async def body(host: Host) -> None:
        path = await host.fetch(of_repo(None))
        names = {str(p.relative_to(path)) for p in path.rglob("*") if p.is_file()}
        assert names == {"model.safetensors", "config.json", "sub/x.json"}

    run(tmp_path, body, files)


def test_a_file_of_a_url_is_fetched_and_compared_with_the_given_sum(tmp_path: Path) -> None:
    async def body(host: Host) -> None:
        url = f"{host.hub.url}/store/tiny-Q4.gguf?secret=1"
        wrong = weights(SourceKind.URL, url, sha256="0" * 64)
        with pytest.raises(FetchFailed, match="instead of 0000") as caught:
            await host.fetch(wrong)
        assert caught.value.permanent
        assert files_below(tmp_path) == [], "what is wrong does not stay"
        right = await host.fetch(weights(SourceKind.URL, url, sha256=hashlib.sha256(BODY).hexdigest()))
        assert right.read_bytes() == BODY

    run(tmp_path, body)


@pytest.mark.parametrize("lfs", [True, False], ids=["LFS digest", "git blob"])
def test_a_file_that_was_altered_on_its_way_is_never_used(tmp_path: Path, lfs: bool) -> None:
    async def body(host: Host) -> None:
        host.hub.spoiled = True
        with pytest.raises(FetchFailed) as caught:
            await host.fetch(of_repo())
        assert caught.value.permanent
        host.hub.spoiled = False
        assert (await host.fetch(of_repo())).read_bytes() == BODY

    run(tmp_path, body, lfs=lfs)


def test_what_broke_off_goes_on_where_it_was(tmp_path: Path) -> None:
    async def body(host: Host) -> None:
        host.hub.cut_after = [2_500_000]
        with pytest.raises(FetchFailed) as caught:
            await host.fetch(of_repo())
        assert not caught.value.permanent
        here = sum(p.stat().st_size for p in files_below(tmp_path) if p.suffix == ".part")
        assert here > 0
        assert (await host.fetch(of_repo())).read_bytes() == BODY
        assert host.hub.ranged == [f"bytes={here}-"]
        assert host.progress.done_bytes == len(BODY)

    run(tmp_path, body)


def test_a_fetch_that_is_cancelled_at_any_moment_goes_on_where_it_was(tmp_path: Path) -> None:
    async def body(host: Host) -> None:
        host.hub.stall_after = 2_500_000
        task = asyncio.create_task(host.fetch(of_repo()))
        async with asyncio.timeout(60):
            while host.progress.done_bytes < 2 * 2**20:  # noqa: ASYNC110 - a fetch has nothing to wait for
                await asyncio.sleep(0.01)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        assert (await host.fetch(of_repo())).read_bytes() == BODY
        assert len(host.hub.ranged) == 1

    run(tmp_path, body)


@pytest.mark.parametrize("how", ["changed", "no ranges", "no etag"])
def test_what_is_not_certainly_the_same_file_is_fetched_anew(tmp_path: Path, how: str) -> None:
    async def body(host: Host) -> None:
        url = weights(SourceKind.URL, f"{host.hub.url}/store/tiny-Q4.gguf")
        host.hub.etags = how != "no etag"
        host.hub.cut_after = [2_500_000]
        with pytest.raises(FetchFailed):
            await host.fetch(url)
        host.hub.ranges = how != "no ranges"
        if how == "changed":
            host.hub.files["tiny-Q4.gguf"] = b"new" * 500_000
        assert (await host.fetch(url)).read_bytes() == host.hub.files["tiny-Q4.gguf"]
        assert host.hub.ranged == []

    run(tmp_path, body, dict(GGUF))


@settings(max_examples=10, deadline=None)
@given(cuts=st.lists(st.integers(0, len(BODY)), max_size=3))
def test_wherever_it_breaks_off_the_file_is_the_same_in_the_end(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[int]
) -> None:
    async def body(host: Host) -> None:
        host.hub.cut_after = list(cuts)
        for _ in range(len(cuts) + 1):
            try:
                path = await host.fetch(of_repo())
            except FetchFailed as exc:
                assert not exc.permanent  # noqa: PT017 - every failure on the way is looked at
            else:
                assert path.read_bytes() == BODY
                return
        raise AssertionError("it never came")

    run(tmp_path_factory.mktemp("cache"), body)


def test_a_repository_that_needs_a_token_gets_it_and_the_store_behind_it_does_not(tmp_path: Path) -> None:
    async def body(host: Host) -> None:
        with pytest.raises(FetchFailed, match="--token-secret") as caught:
            await host.fetch(of_repo())
        assert caught.value.permanent
        await host.fetch(of_repo(), token="hf-value")
        assert set(host.hub.authorisations) == {None, "Bearer hf-value"}

    run(tmp_path, body, token="hf-value")


@pytest.mark.parametrize(
    ("wanted", "text"),
    [
        pytest.param(of_repo("*.bin"), r"matches '\*\.bin'; there are tiny-Q4\.gguf, tiny-Q8\.gguf", id="no match"),
        pytest.param(of_repo("*.gguf"), r"several GGUF files \(tiny-Q4\.gguf, tiny-Q8\.gguf\)", id="too many"),
        pytest.param(of_repo("*.gguf", sha256="0" * 64), "a SHA-256 is for one file", id="one sum for two"),
        pytest.param(
            replace(of_repo(), source=ModelSource(kind=SourceKind.HUGGINGFACE, location="no/such")),
            "404: check the name",
            id="no repository",
        ),
    ],
)
def test_what_cannot_be_is_said_with_what_to_do(tmp_path: Path, wanted: Weights, text: str) -> None:
    async def body(host: Host) -> None:
        with pytest.raises(FetchFailed, match=text) as caught:
            await host.fetch(wanted)
        assert caught.value.permanent

    run(tmp_path, body)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_server_that_is_busy_is_asked_again_when_it_says(tmp_path: Path, status: int) -> None:
    async def body(host: Host) -> None:
        host.hub.statuses = [(status, {"Retry-After": "17"})]
        with pytest.raises(FetchFailed) as caught:
            await host.fetch(of_repo())
        assert (caught.value.permanent, caught.value.after_s) == (False, 17.0)

    run(tmp_path, body)


def test_a_private_address_is_not_opened_unless_the_settings_say_so(tmp_path: Path) -> None:
    async def body(host: Host) -> None:
        with pytest.raises(FetchFailed, match="allow_private_urls") as caught:
            await host.fetch(of_repo())
        assert caught.value.permanent
        assert host.hub.authorisations == []

    run(tmp_path, body, rules=False)


def test_downloads_together_keep_to_their_rate(tmp_path: Path) -> None:
    async def body(host: Host) -> None:
        began = asyncio.get_running_loop().time()
        await host.fetch(of_repo())
        assert asyncio.get_running_loop().time() - began >= 0.9 * len(BODY) / 6_000_000

    run(tmp_path, body, pace=6_000_000)


def test_a_model_of_the_host_is_found_where_it_is_and_its_sum_compared(tmp_path: Path) -> None:
    file = tmp_path / "w.gguf"
    file.write_bytes(BODY)

    async def body(host: Host) -> None:
        right = hashlib.sha256(BODY).hexdigest()
        assert await host.fetch(weights(SourceKind.PATH, str(file), sha256=right)) == file
        assert await host.fetch(weights(SourceKind.PATH, str(tmp_path))) == file
        for wanted in (
            weights(SourceKind.PATH, str(file), sha256="0" * 64),
            weights(SourceKind.PATH, str(tmp_path / "none")),
            weights(SourceKind.PACKAGE, "no_such_package_at_all", file="x"),
            weights(SourceKind.PACKAGE, "stoker", file="none.gguf"),
        ):
            with pytest.raises(FetchFailed) as caught:
                await host.fetch(wanted)
            assert caught.value.permanent
        found = await host.fetch(weights(SourceKind.PACKAGE, "stoker.engines", file="base.py"))
        assert found.name == "base.py"

    run(tmp_path / "cache", body)
