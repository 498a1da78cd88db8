"""Follows what happens to our pods, from the version on at which they were listed. Comes back by itself, and lists anew
where the cluster no longer remembers what came since.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any

import structlog

from stoker.domain.errors import StokerError
from stoker.providers.kubernetes import logs
from stoker.providers.kubernetes.cluster import Cluster, Refused, asking

log = structlog.get_logger(__name__)

AGAIN_FIRST_S, AGAIN_MOST_S = 0.05, 5.0
# Servers end a watch by themselves; this one is begun anew before that, so that a dead connection does not live long.
WATCH_S = 240
GONE = 410
Pod = Mapping[str, Any]


class Watch:
    """`happened(before, after)` for every change of one pod: `before` is `None` for one that is new here, `after` for
    one that is gone. `listed()` after every time that something may have been missed.
    """

    def __init__(
        self,
        cluster: Cluster,
        selector: str,
        *,
        happened: Callable[[Pod | None, Pod | None], None],
        listed: Callable[[], None],
    ) -> None:
        self._cluster, self._selector = cluster, selector
        self._happened, self._listed = happened, listed
        self._pods: dict[str, Pod] = {}
        self._version: str | None = None

    async def run(self) -> None:
        """Until cancelled."""
        loop, pause_s = asyncio.get_running_loop(), AGAIN_FIRST_S
        while True:
            begun_at = loop.time()
            try:
                if self._version is None:
                    await self._relist()
                await self._follow()
            except (StokerError, TimeoutError, ValueError) as exc:
                log.warning("kubernetes_watch_lost", error=str(exc), retry_s=pause_s)
            # One that lasted has earned another at once.
            lasted = loop.time() - begun_at > AGAIN_MOST_S
            pause_s = AGAIN_FIRST_S if lasted else min(AGAIN_MOST_S, pause_s * 2)
            await asyncio.sleep(pause_s)

    async def _relist(self) -> None:
        async with asking("list the pods"):
            pods, self._version = await self._cluster.pods(self._selector)
        now = {pod["metadata"]["uid"]: pod for pod in pods}
        for uid in [uid for uid in self._pods if uid not in now]:
            self._happened(self._pods.pop(uid), None)
        for uid, pod in now.items():
            self._changed(uid, pod)
        self._listed()

    def _changed(self, uid: str, pod: Pod) -> None:
        before = self._pods.get(uid)
        if before is None or before["metadata"]["resourceVersion"] != pod["metadata"]["resourceVersion"]:
            self._pods[uid] = pod
            self._happened(before, pod)

    async def _follow(self) -> None:
        assert self._version is not None
        async with asking("watch the pods", timeout_s=None):
            try:
                async with self._cluster.watching(self._selector, self._version, for_s=WATCH_S) as content:
                    async for line in logs.lines(content):
                        self._take(json.loads(line))
            except Refused as exc:
                if exc.status != GONE:
                    raise
                # The server no longer knows what has happened since that version.
                log.info("kubernetes_watch_behind", version=self._version)
                self._version = None

    def _take(self, event: Mapping[str, Any]) -> None:
        kind, thing = event["type"], event["object"]
        if kind == "ERROR":
            raise Refused(int(thing.get("code") or 500), str(thing.get("reason")), str(thing.get("message")))
        uid = thing["metadata"].get("uid")
        if kind == "DELETED":
            self._pods.pop(uid, None)
            # As it was at last, which says why.
            self._happened(thing, None)
        elif kind != "BOOKMARK":
            self._changed(uid, thing)
        self._version = thing["metadata"]["resourceVersion"]
