"""Brings weights to this host once, whoever wants them, and tells the endpoints that wait for them.

One loop decides what is fetched, given up and removed; each download is a task of its own. What it has come to is in
the store, how far it is in the files: a control that is killed goes on where it was.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import structlog
from sqlalchemy import Connection

from stoker.control.away import Away, named
from stoker.control.change import Change, EventDraft
from stoker.control.fleet import Fleet
from stoker.control.loop import Loop
from stoker.control.model_room import ModelRoom
from stoker.control.needs import Needs
from stoker.domain.endpoint import Endpoint, EndpointId, ProjectId
from stoker.domain.errors import StokerError, Unavailable
from stoker.domain.fetching import ModelFetch
from stoker.domain.models import FetchFailed, Hold, Model, Weights, WeightsKey, WeightsState
from stoker.domain.operation import Level
from stoker.domain.weights import WeightsSize
from stoker.models.cache import gib
from stoker.models.fetcher import Fetcher, Progress
from stoker.policy import weights as policy
from stoker.store import models as rows

log = structlog.get_logger(__name__)

PERIOD_S = 1.0
# Rows are written for those who look after a crash, not for the download, which is resumed from its files.
SAVE_PERIOD_S = 10.0
# Over this time a rate is taken: long enough to ride out a stall.
RATE_WINDOW_S = 10.0
ERROR_CHARS_MAX = 2_000


class Secrets(Protocol):
    """Where tokens come from."""

    async def secret(self, project: ProjectId, name: str) -> str: ...


@dataclass(slots=True)
class _Running:
    """A download under way."""

    task: asyncio.Task[None]
    progress: Progress
    samples: list[tuple[float, int]] = field(default_factory=list)
    saved_at: float = 0.0

    def rate(self, now: float) -> float | None:
        """Bytes a second of late; `None` before there is enough to tell."""
        self.samples = [s for s in self.samples if now - s[0] <= RATE_WINDOW_S]
        self.samples.append((now, self.progress.done_bytes))
        (first_at, first), (last_at, last) = self.samples[0], self.samples[-1]
        return (last - first) / (last_at - first_at) if last_at - first_at >= 1.0 and last > first else None


class Downloads:
    """See the module. `load`, then run `loop`; `at_once` downloads go on side by side. What workers need at providers
    that fetch by themselves does not come here.
    """

    def __init__(
        self,
        fleet: Fleet,
        fetcher: Fetcher,
        secrets: Secrets,
        *,
        at_once: int,
        clock: Callable[[], float],
        told: Callable[[EndpointId], None],
        away: Away | None = None,
    ) -> None:
        """`told(endpoint)` is called when something has changed for an endpoint that waits."""
        self._fleet = fleet
        self._fetcher = fetcher
        self._secrets = secrets
        self._at_once = at_once
        self._clock = clock
        self._told = told
        self._away = away or Away()
        self._weights: dict[WeightsKey, Weights] = {}
        self.needs = Needs(fleet, self._away, self._weights)
        self._room = ModelRoom(
            fetcher, self._weights, protected=self._protected, promised=self._promised, put=self._put
        )
        self._names: dict[WeightsKey, str] = {}
        self._pinned: frozenset[WeightsKey] = frozenset()
        self._fetched_before: set[WeightsKey] = set()
        self._running: dict[WeightsKey, _Running] = {}
        self._rates: dict[WeightsKey, float | None] = {}
        self._shown: dict[WeightsKey, int | None] = {}
        # Of weights that are here.
        self._sizes_loaded: dict[WeightsKey, WeightsSize] = {}
        self.loop = Loop("downloads", self.step, period_s=PERIOD_S)

    async def load(self) -> None:
        """Read what is known, and look at what is there."""

        def read(tx: Connection) -> tuple[tuple[Weights, ...], tuple[Model, ...]]:
            return rows.all_weights(tx), rows.everything(tx)

        found, models = await self._fleet.store.read(read)
        self._weights.update((weights.key, weights) for weights in found)
        self.models_changed(models)
        # The size of what was never begun is not known.
        self._fetched_before = {w.key for w in found if w.total_bytes is not None}
        if self._weights:
            await self._fetcher.tidy(frozenset(self._weights))
        for weights in found:
            if weights.state is WeightsState.READY and await self._fetcher.present(weights) is None:
                await self._put(replace(weights, state=WeightsState.ABSENT, path=None, done_bytes=0))
            elif weights.path is not None:
                await self._measure(weights.key, weights.path)

    async def _measure(self, key: WeightsKey, path: str) -> None:
        found = await self._fetcher.measure(Path(path))
        if found is not None:
            self._sizes_loaded[key] = found

    def models_changed(self, models: Iterable[Model]) -> None:
        """All models of all projects, as they are now."""
        known = tuple(models)
        self._names = {model.key: model.name for model in reversed(known)}
        self._pinned = frozenset(model.key for model in known if model.pinned)

    # What others ask

    def weights(self, key: WeightsKey) -> Weights | None:
        """How they stand, with the progress of this moment."""
        known, running = self._weights.get(key), self._running.get(key)
        if known is None or running is None:
            return known
        done, total = running.progress.done_bytes, running.progress.total_bytes
        return replace(known, done_bytes=done, total_bytes=total or known.total_bytes)

    def rate(self, key: WeightsKey) -> float | None:
        """Bytes a second that come now, as far as is known."""
        return self._rates.get(key)

    def hold(self, endpoint: Endpoint) -> Hold | None:
        """Why no worker of the present revision may start; `None` when all that it needs is here."""
        now = self._clock()
        for key in named(endpoint):
            if key in self._weights and key not in self.needs.of(endpoint):
                continue
            name = self._names.get(key) or endpoint.spec.launch.model or key
            found = policy.hold_of(self.weights(key), name, rate_bytes_per_s=self._rates.get(key), now=now)
            if found is not None:
                return found
        for launch in endpoint.launches.values():
            size = None if launch.weights is None else self._sizes_loaded.get(WeightsKey(launch.weights))
            if size is not None and launch.video_memory is not None and (lack := launch.video_memory.lack(size)):
                return Hold(lack, failed=True)
        return None

    def size(self, key: WeightsKey) -> WeightsSize | None:
        """How large weights are that are here; `None` where that is not known."""
        return self._sizes_loaded.get(key)

    def path(self, key: WeightsKey) -> str | None:
        """Where READY weights lie."""
        known = self._weights.get(key)
        return None if known is None else known.path

    def elsewhere(self, key: WeightsKey, names: tuple[str, ...]) -> ModelFetch | None:
        """What a provider is told that fetches these by itself; `None` for those that nobody else can fetch. `names`:
        what the model is called where the catalogue does not know.
        """
        known = self._weights.get(key)
        return None if known is None else self._away.fetch(known, self._names.get(key) or next(iter(names), key))

    # What others change

    def remember(self, weights: Weights) -> None:
        """New ones, or changed ones, that are in the store already."""
        self._weights[weights.key] = weights
        self.loop.wake()

    async def expect(self, endpoint: Endpoint) -> None:
        """A new or changed endpoint: fetch what it needs before its first request, and what failed once more."""
        for key in self.needs.of(endpoint):
            known = self._weights.get(key)
            if known is None or known.state is WeightsState.READY:
                continue
            if key not in self._running:
                self._fetched_before.discard(key)
            if known.state is WeightsState.FAILED and known.retry_at is None:
                await self._put(replace(known, state=WeightsState.ABSENT, error="", failures=0))
            self.loop.wake()

    async def pull(self, key: WeightsKey) -> None:
        """Fetch them, now, whatever happened before."""
        known = self._weights[key]
        if known.state is not WeightsState.READY:
            state = WeightsState.DOWNLOADING if key in self._running else WeightsState.ABSENT
            await self._put(replace(known, asked=True, state=state, error="", failures=0, retry_at=None))
            self._tell(key)
        self.loop.wake()

    async def forget(self, key: WeightsKey) -> None:
        """Give up and remove them. The caller has removed the row."""
        self._weights.pop(key, None)
        self._sizes_loaded.pop(key, None)
        await self._cancel(key)
        await self._fetcher.remove(key)
        self._fetched_before.discard(key)

    async def prune(self) -> tuple[tuple[WeightsKey, ...], int]:
        """Remove all that is neither used by an active endpoint nor pinned nor asked for: which, and how many bytes."""
        return await self._room.prune(lambda: frozenset(key for _, key in self.needs.active()))

    async def close(self) -> None:
        """Let downloads rest; the next control goes on with them."""
        running = [each.task for each in self._running.values()]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await self._fetcher.close()

    # The loop

    async def step(self) -> None:
        """Begin what is due, give up what nobody wants any more, tell of what goes on."""
        now = self._clock()
        if not self._weights:
            return
        wanted = self._wanted()
        for key in [key for key in self._running if key not in wanted and not self._asked(key)]:
            await self._give_up(key)
        await self._touch(now)
        for weights in sorted(self._weights.values(), key=lambda w: (w.key not in wanted, w.used_at)):
            if len(self._running) >= self._at_once:
                break
            if weights.key not in self._running and policy.due(weights, wanted=weights.key in wanted, now=now):
                await self._begin(weights)
        for key, running in tuple(self._running.items()):
            await self._tell_progress(key, running, now)

    def _asked(self, key: WeightsKey) -> bool:
        known = self._weights.get(key)
        return known is not None and known.asked

    def _wanted(self) -> frozenset[WeightsKey]:
        return frozenset(
            key
            for endpoint, key in self.needs.active()
            if key in self._weights
            and policy.wants(self._weights[key], desired=endpoint.desired, fetched_before=key in self._fetched_before)
        )

    def _protected(self) -> frozenset[WeightsKey]:
        needed = {key for endpoint, key in self.needs.active() if endpoint.desired > 0}
        return frozenset(self._pinned | needed | self.needs.opened() | self._running.keys())

    async def _touch(self, now: float) -> None:
        """Remember when those in use were last used; to the minute is enough."""
        for key in self.needs.opened():
            known = self._weights.get(key)
            if known is not None and now - known.used_at > 60.0:
                await self._put(replace(known, used_at=now))

    async def _begin(self, weights: Weights) -> None:
        self._fetched_before.add(weights.key)
        fresh = weights.state is not WeightsState.DOWNLOADING
        weights = replace(weights, state=WeightsState.DOWNLOADING, error="", retry_at=None, used_at=self._clock())
        await self._put(weights)
        progress = Progress(total_bytes=weights.total_bytes)
        task = asyncio.create_task(self._run(weights, progress), name=f"download {weights.key}")
        self._running[weights.key] = _Running(task, progress, saved_at=self._clock())
        if fresh and not weights.source.local:
            await self._event(weights.key, "model_download_started", f"downloading from {weights.source}")
        self._tell(weights.key)

    async def _run(self, weights: Weights, progress: Progress) -> None:
        key = weights.key
        try:
            token = None
            if weights.token_secret is not None:
                token = await self._secrets.secret(weights.project, weights.token_secret)
            path = await self._fetcher.fetch(weights, token=token, progress=progress, make_room=self._room.make)
            await self._measure(key, str(path))
        except FetchFailed as exc:
            await self._failed(key, progress, exc)
        except StokerError as exc:
            await self._failed(key, progress, FetchFailed(str(exc), permanent=not isinstance(exc, Unavailable)))
        except Exception as exc:
            log.error("download_failed", weights=key, error=str(exc), exc_info=True)
            await self._failed(key, progress, FetchFailed(f"something went wrong inside Stoker: {exc}"))
        else:
            # Nothing is awaited until it is READY: what neither runs nor is ready would be begun once more.
            self._running.pop(key, None)
            if (known := self._weights.get(key)) is None:
                self._sizes_loaded.pop(key, None)
                return
            size = progress.done_bytes
            done = replace(known, path=str(path), done_bytes=size, total_bytes=size, error="", failures=0, asked=False)
            await self._put(replace(done, state=WeightsState.READY, retry_at=None, used_at=self._clock()))
            await self._event(key, "model_ready", f"is on this host ({gib(size)})")
            log.info("model_ready", weights=key, source=str(known.source), size_bytes=size)
            self._tell(key)
        finally:
            self._rates.pop(key, None)
            self.loop.wake()

    async def _failed(self, key: WeightsKey, progress: Progress, exc: FetchFailed) -> None:
        self._running.pop(key, None)
        known = self._weights.get(key)
        if known is None:
            return
        now = self._clock()
        # A download that gets further each time is not to be kept waiting longer and longer.
        failures = known.failures + 1 if progress.done_bytes <= known.done_bytes else 1
        again = None if exc.permanent else policy.retry_at(failures, now=now, after_s=exc.after_s)
        error = str(exc)[:ERROR_CHARS_MAX]
        failed = replace(known, state=WeightsState.FAILED, error=error, failures=failures, retry_at=again)
        total = progress.total_bytes or known.total_bytes
        await self._put(replace(failed, done_bytes=progress.done_bytes, total_bytes=total))
        log.warning("model_failed", weights=key, source=str(known.source), error=error, retry_at=again)
        await self._event(key, "model_failed", f"could not be fetched: {error}", level=Level.ERROR)
        self._tell(key)

    async def _give_up(self, key: WeightsKey) -> None:
        await self._cancel(key)
        known = self._weights.get(key)
        if known is not None and known.state is not WeightsState.READY:
            # What is here of it stays, to be gone on with.
            await self._put(replace(known, state=WeightsState.ABSENT))
            self._fetched_before.discard(key)
            log.info("download_given_up", weights=key, source=str(known.source))

    async def _cancel(self, key: WeightsKey) -> None:
        running = self._running.pop(key, None)
        if running is not None:
            running.task.cancel()
            await asyncio.gather(running.task, return_exceptions=True)

    def _promised(self, besides: WeightsKey) -> int:
        """Bytes that other downloads still have to write."""
        others = [running.progress for key, running in self._running.items() if key != besides]
        return sum(max(0, (p.total_bytes or 0) - p.done_bytes) for p in others)

    # Telling

    async def _tell_progress(self, key: WeightsKey, running: _Running, now: float) -> None:
        self._rates[key] = running.rate(now)
        known = self.weights(key)
        if known is None:
            return
        before, after = self._shown.get(key), known.percent
        if after == before:
            return
        self._shown[key] = after
        passed = policy.steps(before, after)
        if passed is not None:
            total = "" if known.total_bytes is None else f" of {gib(known.total_bytes)}"
            await self._event(key, "model_download_progress", f"is here to {passed} %{total}")
            if self._running.get(key) is not running:
                # It has ended meanwhile, and what was known before would undo that.
                return
        if passed is not None or now - running.saved_at >= SAVE_PERIOD_S:
            running.saved_at = now
            await self._put(known)
        self._tell(key)

    def _tell(self, key: WeightsKey) -> None:
        for endpoint in self.needs.waiting(key):
            self._told(endpoint.id)

    async def _event(self, key: WeightsKey, kind: str, text: str, *, level: Level = Level.INFO) -> None:
        name = self._names.get(key, key)
        draft = EventDraft(at=self._clock(), kind=kind, message=f"model {name} {text}", level=level)
        for waiting in self.needs.waiting(key):
            async with self._fleet.lock(waiting.id):
                endpoint = self._fleet.endpoint(waiting.id)
                if endpoint is not None:
                    await self._fleet.commit(Change(endpoint=endpoint, events=[draft]))

    async def _put(self, weights: Weights) -> None:
        if weights.key not in self._weights:
            return
        self._weights[weights.key] = weights
        await self._fleet.store.write(lambda tx: rows.put_weights(tx, weights))
