"""`python -m stoker.models.step`: fetches weights into a cache at a provider, before a worker that reads them there.

What to fetch is in its environment (`stoker.domain.fetching`). Prints how far it is, a JSON object a line; ends with
code 0 when all is there, 1 when another try may do better, 2 when none will. Several at once fetch once.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

from stoker.domain.endpoint import FIRST_PROJECT
from stoker.domain.fetching import LINK, TOKEN_VARIABLE, VARIABLE, ModelFetch, StepLine, ordered
from stoker.domain.models import FetchFailed, Weights, WeightsKey, WeightsState
from stoker.domain.pauses import doubled
from stoker.models.cache import Cache, gib
from stoker.models.fetcher import HostFetcher, Progress
from stoker.models.transfer import Pace, Session
from stoker.net import GuardedSession

LOCK = "lock"
# In a row, none of which has come any further.
TRIES_MAX = 6
BACKOFF_MAX_S = 60.0
SAY_S = 1.0
LOOK_S = 0.5
_PARTED = re.compile(r"-\d{5}-of-(\d{5})\Z")

Tell = Callable[[StepLine], None]


class Step:
    """One fetch into the cache in `folder`. `tell` hears how far it is."""

    def __init__(self, fetch: ModelFetch, folder: Path, session: Session, *, tell: Tell, pause_s: float = 1.0) -> None:
        """`pause_s` is the first pause after a failed try; each further one is twice as long."""
        self._fetch, self._folder, self._tell, self._pause_s = fetch, folder, tell, pause_s
        self._cache = Cache(folder, bytes_max=None, readable_by_all=True)
        self._fetcher = HostFetcher(self._cache, session, hf_endpoint=fetch.hub, pace=Pace(fetch.bytes_per_s))

    async def run(self) -> Path:
        """Where the weights lie. Raises `FetchFailed` when they do not get there."""
        key = self._fetch.key
        if self._cache.completed(key) is None:
            async with self._alone():
                await self._tried()
        try:
            place = await asyncio.to_thread(self._linked)
        except OSError as exc:
            raise FetchFailed(f"cannot write into the cache: {exc.strerror or exc}") from exc
        self._tell(StepLine("ready"))
        return place

    @contextlib.asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        """Nobody else fetches the same; a lock that whoever dies lets go of."""
        try:
            # All that is of these weights is in one folder: the rest of the cache may not be seen from here.
            own = self._folder / self._fetch.key
            own.mkdir(parents=True, exist_ok=True)
            file = (own / LOCK).open("ab")
        except OSError as exc:
            raise FetchFailed(f"cannot write into the cache: {exc.strerror or exc}", permanent=True) from exc
        with file:
            told = False
            while not _locked(file.fileno()):
                if not told:
                    self._tell(StepLine("waiting"))
                    told = True
                await asyncio.sleep(LOOK_S)
            yield

    async def _tried(self) -> None:
        """Until it is there, through what passes by itself."""
        failures, reached = 0, 0
        while True:
            progress = Progress()
            saying = asyncio.create_task(self._say(progress))
            try:
                wanted, token = _weights(self._fetch), self._fetch.token
                await self._fetcher.fetch(wanted, token=token, progress=progress, make_room=self._check_room)
                return
            except FetchFailed as exc:
                failures = 1 if progress.done_bytes > reached else failures + 1
                reached = max(reached, progress.done_bytes)
                if exc.permanent or failures >= TRIES_MAX:
                    raise
                pause_s = max(exc.after_s or 0.0, doubled(self._pause_s, failures, max_s=BACKOFF_MAX_S))
            finally:
                saying.cancel()
            await asyncio.sleep(min(BACKOFF_MAX_S, pause_s))

    async def _say(self, progress: Progress) -> None:
        said: StepLine | None = None
        while True:
            line = StepLine("fetching", done_bytes=progress.done_bytes, total_bytes=progress.total_bytes)
            if said is None or said.percent != line.percent:
                said = line
                self._tell(line)
            await asyncio.sleep(SAY_S)

    async def _check_room(self, key: WeightsKey, needed: int) -> None:
        own = Cache(self._folder / key, bytes_max=None)
        missing, full = await asyncio.to_thread(lambda: own.missing(needed, kept=0))
        if missing > 0:
            raise FetchFailed(
                f"{gib(needed)} more are needed and {full} in the cache; make it larger, or remove models from it",
                permanent=True,
            )

    def _linked(self) -> Path:
        """Its one GGUF file under the name that workers know beforehand."""
        found = self._cache.completed(self._fetch.key)
        assert found is not None
        if not self._fetch.source.expects_gguf:
            return found
        if (parts := _PARTED.search(found.stem)) and int(parts[1]) > 1:
            raise FetchFailed(
                f"it is split into {int(parts[1])} files, which cannot be read out of a cache at a provider; let "
                "Stoker fetch it to where workers see it, or name one that is whole",
                permanent=True,
            )
        link = self._folder / self._fetch.key / LINK
        if not link.exists():
            aside = link.with_suffix(f".{os.getpid()}")
            aside.unlink(missing_ok=True)
            aside.symlink_to(found.relative_to(link.parent))
            aside.replace(link)
        return link


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as exc:
        raise FetchFailed(f"the cache's file system has no locks: {exc.strerror}", permanent=True) from exc
    return True


def _weights(fetch: ModelFetch) -> Weights:
    return Weights(
        key=fetch.key,
        source=fetch.source,
        sha256=fetch.sha256,
        project=FIRST_PROJECT,
        token_secret=None,
        state=WeightsState.DOWNLOADING,
        asked=True,
        used_at=0.0,
    )


def _print(line: StepLine) -> None:
    sys.stdout.write(line.encode() + "\n")
    sys.stdout.flush()


async def step(environ: Mapping[str, str], *, tell: Tell = _print) -> int:
    """Do what the environment says; the exit code."""
    try:
        fetch, folder = ordered(environ[VARIABLE], environ.get(TOKEN_VARIABLE))
    except (KeyError, ValueError) as exc:
        tell(StepLine("failed", error=f"{VARIABLE} does not say what to fetch: {exc}"))
        return 2
    session = GuardedSession(fetch.rules)
    try:
        await Step(fetch, Path(folder), session, tell=tell).run()
    except FetchFailed as exc:
        tell(StepLine("failed", error=str(exc)))
        return 2 if exc.permanent else 1
    finally:
        await session.close()
    return 0


async def _until_told() -> int:
    work = asyncio.ensure_future(step(os.environ))
    # As the first process of a container it would not even notice.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, work.cancel)
    try:
        return await work
    except asyncio.CancelledError:
        return 128 + signal.SIGTERM


def main() -> None:
    """See the module."""
    sys.exit(asyncio.run(_until_told()))


if __name__ == "__main__":
    main()
