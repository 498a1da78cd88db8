"""The connection to the cluster: whose configuration it has, and what its answers mean to those who call a provider."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import structlog
from kubernetes_asyncio import config
from kubernetes_asyncio.client import ApiClient, Configuration, CoreV1Api
from kubernetes_asyncio.config.config_exception import ConfigException
from kubernetes_asyncio.config.kube_config import KubeConfigLoader, refresh_token
from kubernetes_asyncio.stream import WsApiClient

from stoker.domain.errors import Invalid, Unavailable
from stoker.providers.kubernetes.options import KubernetesOptions

log = structlog.get_logger(__name__)

CALL_TIMEOUT_S = 60.0
CONNECT_S = 10.0
PAGE = 500
ERROR_STREAM = b"\x03"
# Pages asked for before a list is given up that changes faster than it can be read.
LIST_TRIES = 3
# Credentials of a kubeconfig that a program hands out are good for some minutes.
TOKEN_PERIOD_S = 60.0
# Where a pod finds what it is in its cluster.
ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
# Bounded by those who ask: followed logs and watches each hold a connection.
_CONNECTIONS = 0
_CALL = {"_preload_content": False}


@dataclass
class Refused(Exception):
    """The API server's answer, where it was none of success: the fields of its Status object."""

    status: int
    reason: str
    message: str

    def __str__(self) -> str:
        return self.message


class Cluster:
    """One API server, and the namespace in which workers are. To be made within the loop in which it is used."""

    def __init__(self, configuration: Configuration, namespace: str, loader: KubeConfigLoader | None) -> None:
        self.namespace = namespace
        configuration.connection_pool_maxsize = _CONNECTIONS
        self._client = ApiClient(configuration)
        self._streams = WsApiClient(configuration)
        # What it is written to return is not what it returns without having read it.
        self.core: Any = CoreV1Api(self._client)
        self._exec: Any = CoreV1Api(self._streams)
        self._refresh = None if loader is None else asyncio.create_task(_refreshed(loader, configuration))

    async def close(self) -> None:
        """Let go of all connections."""
        if self._refresh is not None:
            self._refresh.cancel()
            await asyncio.gather(self._refresh, return_exceptions=True)
        await self._client.close()
        await self._streams.close()

    async def ask(self, call: Awaitable[Any]) -> dict[str, Any]:
        """The object that it answers with. Raises `Refused`."""
        async with await call as response:
            return _object(response.status, await response.read())

    async def create(self, kind: str, body: dict[str, Any]) -> dict[str, Any]:
        """A new object: `pod`, `secret` or `persistent_volume_claim`. Raises `Refused`."""
        return await self.ask(getattr(self.core, f"create_namespaced_{kind}")(self.namespace, body, **_CALL))

    async def pod(self, name: str) -> dict[str, Any] | None:
        """The pod of that name; `None` when there is none. Raises `Refused`."""
        found: dict[str, Any] | None = await unless(
            404, self.ask(self.core.read_namespaced_pod(name, self.namespace, **_CALL))
        )
        return found

    async def delete(self, kind: str, name: str, **how: Any) -> None:
        """Ask for its end; one that is gone is success. Raises `Refused`."""
        call = getattr(self.core, f"delete_namespaced_{kind}")(name, self.namespace, **how, **_CALL)
        await unless(404, self.ask(call))

    async def merge(self, kind: str, name: str, patch: dict[str, Any]) -> None:
        """Change these fields of it. Raises `Refused`."""
        how = {"_content_type": "application/merge-patch+json", **_CALL}
        await self.ask(getattr(self.core, f"patch_namespaced_{kind}")(name, self.namespace, patch, **how))

    async def pods(self, selector: str) -> tuple[list[dict[str, Any]], str]:
        """All pods with these labels, and the version of the list. Raises `Refused`, `Unavailable`."""
        return await self._pages(
            lambda **page: self.core.list_namespaced_pod(self.namespace, label_selector=selector, **page, **_CALL)
        )

    async def claims(self, selector: str) -> list[dict[str, Any]]:
        """All claims with these labels. Raises `Refused`, `Unavailable`."""
        items, _ = await self._pages(
            lambda **page: self.core.list_namespaced_persistent_volume_claim(
                self.namespace, label_selector=selector, **page, **_CALL
            )
        )
        return items

    async def nodes(self, selector: str | None) -> list[dict[str, Any]]:
        """All nodes with these labels. Raises `Refused`, `Unavailable`."""
        more = {} if selector is None else {"label_selector": selector}
        items, _ = await self._pages(lambda **page: self.core.list_node(**more, **page, **_CALL))
        return items

    async def others(self, installation_label: str, installation: str) -> list[dict[str, Any]]:
        """The pods of all namespaces that have not ended, without ours. Raises `Refused`, `Unavailable`."""
        living = "status.phase!=Succeeded,status.phase!=Failed"
        items, _ = await self._pages(
            lambda **page: self.core.list_pod_for_all_namespaces(field_selector=living, **page, **_CALL)
        )
        return [pod for pod in items if (pod["metadata"].get("labels") or {}).get(installation_label) != installation]

    async def quotas(self) -> list[dict[str, Any]]:
        """The quotas of the namespace. Raises `Refused`, `Unavailable`."""
        items, _ = await self._pages(
            lambda **page: self.core.list_namespaced_resource_quota(self.namespace, **page, **_CALL)
        )
        return items

    async def _pages(self, call: Any) -> tuple[list[dict[str, Any]], str]:
        for _ in range(LIST_TRIES):
            items: list[dict[str, Any]] = []
            more: dict[str, Any] = {}
            try:
                while True:
                    answer = await self.ask(call(limit=PAGE, **more))
                    items += answer.get("items") or []
                    metadata = answer.get("metadata", {})
                    if not metadata.get("continue"):
                        return items, str(metadata.get("resourceVersion", ""))
                    more = {"_continue": metadata["continue"]}
            except Refused as exc:
                # Gone: the rest of the list is older than what the server remembers.
                if exc.status != 410:
                    raise
        raise Unavailable("the list changes faster than it can be read")

    @contextlib.asynccontextmanager
    async def watching(self, selector: str, version: str, *, for_s: int) -> AsyncIterator[aiohttp.StreamReader]:
        """What happens to pods with these labels after that version, an event a line. Raises `Refused`."""
        call = self.core.list_namespaced_pod(
            self.namespace,
            label_selector=selector,
            resource_version=version,
            watch=True,
            allow_watch_bookmarks=True,
            timeout_seconds=for_s,
            _request_timeout=aiohttp.ClientTimeout(sock_connect=CONNECT_S, sock_read=for_s + CALL_TIMEOUT_S),
            **_CALL,
        )
        async with await call as response:
            if response.status != 200:
                _object(response.status, await response.read())
            yield response.content

    @contextlib.asynccontextmanager
    async def output(self, name: str, **how: Any) -> AsyncIterator[aiohttp.StreamReader]:
        """A pod's output with its times. Raises `Refused`."""
        timeout = aiohttp.ClientTimeout(sock_connect=CONNECT_S, total=None if how.get("follow") else CALL_TIMEOUT_S)
        call = self.core.read_namespaced_pod_log(
            name, self.namespace, timestamps=True, _request_timeout=timeout, **how, **_CALL
        )
        async with await call as response:
            if response.status != 200:
                _object(response.status, await response.read())
            yield response.content

    async def execute(self, name: str, container: str, command: list[str]) -> int:
        """Run it in the pod and wait for its exit code; nothing is read of its output."""
        opened = await self._exec.connect_get_namespaced_pod_exec(
            name, self.namespace, container=container, command=command, stdout=True, stderr=True, **_CALL
        )
        # The last frame of its fourth stream says how it ended.
        status = b""
        async with opened as socket:
            async for message in socket:
                data = message.data if isinstance(message.data, bytes) else str(message.data).encode()
                if data[:1] == ERROR_STREAM:
                    status = data[1:]
        if not status:
            raise Unavailable("the cluster did not say how it ended")
        return exit_code(json.loads(status))


def exit_code(status: dict[str, Any]) -> int:
    """What the Status object at the end of an execution means. Raises `Unavailable` when it could not be run."""
    if status.get("status") == "Success":
        return 0
    for cause in (status.get("details") or {}).get("causes") or ():
        if cause.get("reason") == "ExitCode":
            return int(cause["message"])
    raise Unavailable(str(status.get("message") or status))


def _object(status: int, data: bytes) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except ValueError:
        found = None
    if 200 <= status < 300 and isinstance(found, dict):
        return found
    if isinstance(found, dict) and found.get("kind") == "Status":
        raise Refused(status, str(found.get("reason", "")), str(found.get("message") or f"HTTP {status}"))
    raise Refused(status, "", f"HTTP {status}: {data[:200].decode(errors='replace')}")


async def unless(status: int, call: Awaitable[Any]) -> Any:
    """What it answers; `None` when it is refused with `status`."""
    try:
        return await call
    except Refused as exc:
        if exc.status != status:
            raise
        return None


async def opened(options: KubernetesOptions, *, account: Path = ACCOUNT) -> Cluster:
    """That of the kubeconfig, or the one whose service account is in the folder `account`. Raises `Invalid` when the
    configuration leads nowhere.
    """
    configuration = Configuration()
    try:
        own = None if options.kubeconfig or options.context else await asyncio.to_thread(_namespace, account)
        if own is not None:
            config.load_incluster_config(  # type: ignore[no-untyped-call]
                client_configuration=configuration,
                token_filename=str(account / "token"),
                cert_filename=str(account / "ca.crt"),
            )
            namespace, loader = own, None
        else:
            loader = await config.load_kube_config(
                config_file=options.kubeconfig,
                context=options.context,
                client_configuration=configuration,
                persist_config=False,
            )
            contexts, current = config.list_kube_config_contexts(options.kubeconfig)
            chosen = next((each for each in contexts if each["name"] == options.context), current)
            namespace = ((chosen or {}).get("context") or {}).get("namespace", "default")
    except (ConfigException, OSError) as exc:
        raise Invalid(
            f"the kubernetes provider finds no cluster: {exc}. Within one, give its pod a service account; elsewhere "
            "say with kubeconfig and context which"
        ) from exc
    return Cluster(configuration, options.namespace or namespace, loader)


def _namespace(account: Path) -> str | None:
    """The namespace of the pod that this runs in; `None` outside of clusters."""
    with contextlib.suppress(FileNotFoundError):
        return (account / "namespace").read_text(encoding="utf-8").strip()
    return None


async def _refreshed(loader: KubeConfigLoader, configuration: Configuration) -> None:
    """Until cancelled. Returns when there is nothing that wears out."""
    while True:
        try:
            await refresh_token(loader, configuration, interval=TOKEN_PERIOD_S)
            return
        except (ConfigException, OSError, ValueError) as exc:
            log.warning("kubernetes_credentials_stale", error=str(exc))
            await asyncio.sleep(TOKEN_PERIOD_S)


@contextlib.asynccontextmanager
async def asking(what: str, *, timeout_s: float | None = CALL_TIMEOUT_S) -> AsyncIterator[None]:
    """Turns what goes wrong within into `Unavailable`, or `Invalid` for what the cluster will never do."""
    try:
        async with asyncio.timeout(timeout_s):
            yield
    except Refused as exc:
        text = f"cannot {what}: {exc}"
        if _for_good(exc):
            raise Invalid(text) from exc
        raise Unavailable(text) from exc
    except TimeoutError as exc:
        raise Unavailable(f"cannot {what}: the cluster did not answer within {timeout_s} s") from exc
    except (aiohttp.ClientError, OSError) as exc:
        raise Unavailable(f"cannot {what}: {exc or type(exc).__name__}") from exc


def _for_good(refused: Refused) -> bool:
    """Will no later try be answered otherwise? A quota is: others end. So is a service account that is being made."""
    if refused.status == 403:
        return not over_quota(refused) and "service account" not in refused.message
    return refused.status in (400, 413, 422)


def over_quota(refused: Refused) -> bool:
    """Is it the namespace's quota that stands in the way?"""
    return refused.status == 403 and "exceeded quota" in refused.message
