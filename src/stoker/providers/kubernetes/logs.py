"""Output of pods: what the cluster streams as lines with their times, through interruptions of the stream."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import structlog

from stoker.domain.times import seconds_of
from stoker.providers.base import LogLine
from stoker.providers.kubernetes.cluster import Cluster, Refused

log = structlog.get_logger(__name__)

# Of a pod that is removed, so many lines are kept.
LINES_KEPT = 10_000
# A program may write for hours without ending a line.
LINE_BYTES_MAX = 1024 * 1024
LOOK_S = 0.2
# Two lines of one moment still have an order.
_LEAST_S = 1e-6
# Kubernetes does not say which of the two a line was written to.
STREAM = "stdout"


class _Told:
    """How far a reader has come: the moment of the last line, and how many lines of that moment there were."""

    def __init__(self) -> None:
        self._at, self._of_it, self._skipped = "", 0, 0

    def again(self) -> None:
        """What comes now begins somewhere before that."""
        self._skipped = 0

    def since_s(self, now: float) -> int | None:
        """How many seconds back the next stream has to begin; whole ones are all that the cluster takes."""
        return max(1, math.ceil(now - seconds_of(self._at)) + 1) if self._at else None

    def new(self, stamp: str) -> bool:
        """Has this line not been told yet?"""
        # With all digits: those at the end are left out when they are zeros.
        plain, _, digits = stamp.removesuffix("Z").partition(".")
        at = f"{plain}.{digits:0<9}"
        if at == self._at and self._skipped < self._of_it:
            self._skipped += 1
            return False
        if at < self._at:
            return False
        self._of_it = self._of_it + 1 if at == self._at else 1
        self._at, self._skipped = at, self._of_it
        return True


async def stream(
    cluster: Cluster, pod: str, *, tail: int, follow: bool, runs: Callable[[], Awaitable[bool]]
) -> AsyncIterator[LogLine]:
    """The last `tail` lines, and with `follow` those that come, for as long as the pod `runs`. Unknown: none. Raises
    what the library raises.
    """
    told, last = _Told(), 0.0
    how: dict[str, Any] = {"tail_lines": max(0, tail)}
    while True:
        # Asked before it is read: what a worker said at last is there by then.
        going = follow and await runs()
        try:
            async for stamp, text in _lines(cluster, pod, follow=going, **how):
                if told.new(stamp):
                    last = max(seconds_of(stamp), last + _LEAST_S)
                    yield LogLine(last, STREAM, text)
        except Refused as exc:
            if exc.status == 404:
                return
            # Bad request: it has no output yet.
            if exc.status != 400:
                raise
        except aiohttp.ClientPayloadError as exc:
            log.info("kubernetes_output_interrupted", pod=pod, error=str(exc))
        if not going:
            return
        since_s = told.since_s(time.time())
        if since_s is not None:
            how = {"since_seconds": since_s}
        told.again()
        await asyncio.sleep(LOOK_S)


async def tail(cluster: Cluster, pod: str, container: str, count: int) -> list[str]:
    """The last lines of one of its containers; none while it has said nothing. Raises what the library raises."""
    try:
        return [text async for _, text in _lines(cluster, pod, container=container, tail_lines=count)]
    except Refused as exc:
        # Bad request: it has no output yet. Else its node does not answer, or it is gone.
        log.info("kubernetes_step_silent", pod=pod, error=str(exc))
        return []


async def _lines(cluster: Cluster, pod: str, **how: Any) -> AsyncIterator[tuple[str, str]]:
    async with cluster.output(pod, **how) as content:
        async for line in lines(content):
            stamp, _, text = line.decode(errors="replace").partition(" ")
            yield stamp, text


async def lines(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Whole lines; of one without an end, the beginning."""
    unfinished = b""
    async for data in content.iter_any():
        *whole, rest = (unfinished + data).split(b"\n")
        unfinished = rest[:LINE_BYTES_MAX]
        for line in whole:
            yield line
    if unfinished:
        yield unfinished


async def last(cluster: Cluster, pod: str) -> list[LogLine]:
    """What it said at last, as far as the cluster still has it."""

    async def never() -> bool:
        return False

    return [line async for line in stream(cluster, pod, tail=LINES_KEPT, follow=False, runs=never)]
