"""Workers as containers: what the daemon is asked to create, and what its answers say of a worker. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from signal import Signals
from typing import Any

from stoker.domain.errors import Invalid
from stoker.domain.fetching import MODELS_AT, ModelFetch
from stoker.domain.times import seconds_of
from stoker.domain.worker import Address, Exit, Observed, WorkerId, WorkerSpec
from stoker.providers.docker.options import DockerOptions
from stoker.providers.environ import environ, listens_at

INSTALLATION = "stoker.installation"
WORKER = "stoker.worker"
VOLUME = "stoker.volume"
ENDPOINT = "stoker.endpoint"
NAME = "stoker.name"
LISTEN = "stoker.listen"
PORT = "stoker.port"
# The name of the model that is fetched before it runs.
MODEL = "stoker.model"
_GIB = 1024**3
# Frameworks hand tensors from process to process through it; the daemon's own default of 64 MiB breaks them.
SHM_BYTES = _GIB
# A program that a signal has ended exits with this much more than the signal's number.
_SIGNALLED = 128
# Whoever takes a picture of a container pauses it for a moment. One that stays so answers nobody.
PAUSED_S = 10.0
_NEVER = "0001-01-01T00:00:00Z"
# What has ended, or never began.
OVER = ("created", "exited", "dead", "removing")


def name_of(worker: str, installation: str) -> str:
    """What the container of a worker is called: one daemon may serve several installations."""
    return f"stoker-{installation[:12]}-{worker}"


def body(spec: WorkerSpec, options: DockerOptions, installation: str) -> dict[str, Any]:
    """The request that creates the worker's container. Raises `Invalid`."""
    image = spec.image or spec.base or options.image
    if image is None:
        raise Invalid(
            "the docker provider runs images: say which in launch.image, or set the provider's option image for all"
        )
    listen = listens_at(spec)
    published = _published(spec, options)
    return {
        "Image": image,
        "Hostname": _hostname(spec.name),
        # One that comes without an image is a whole program; else it is what the image's own entry point is given.
        "Entrypoint": [""] if spec.image is None else None,
        "Cmd": list(spec.command) or None,
        "User": options.user or "",
        "Env": [f"{name}={value}" for name, value in environ(spec).items()],
        "ExposedPorts": {key: {} for key in published},
        "Labels": {
            INSTALLATION: installation,
            WORKER: spec.id,
            ENDPOINT: spec.endpoint,
            NAME: spec.name,
        }
        | ({} if listen is None else {LISTEN: str(listen)})
        | ({} if spec.port is None else {PORT: str(spec.port)})
        | ({} if spec.fetch is None else {MODEL: spec.fetch.name}),
        "HostConfig": _host_config(spec, options, published, installation),
    }


def _published(spec: WorkerSpec, options: DockerOptions) -> dict[str, list[dict[str, str]]]:
    """Ports of the container, and where they stand on the host: pinned, since others change at every start."""
    if not options.published or spec.port is None:
        return {}
    ports = {listens_at(spec) or spec.port: spec.port, **spec.ports}
    return {f"{inner}/tcp": [{"HostIp": options.publish, "HostPort": str(own)}] for inner, own in ports.items()}


def _host_config(
    spec: WorkerSpec, options: DockerOptions, published: Mapping[str, Any], installation: str
) -> dict[str, Any]:
    config: dict[str, Any] = guarded(options) | {
        "PortBindings": published,
        "CapAdd": list(options.capabilities),
        "ShmSize": SHM_BYTES if options.shm_gib is None else int(options.shm_gib * _GIB),
        "Mounts": _mounts(spec, options, installation),
        "ReadonlyRootfs": options.read_only,
    }
    if options.read_only:
        config["Tmpfs"] = {"/tmp": "mode=1777"}
    if spec.vcpu is not None:
        config["NanoCpus"] = int(spec.vcpu * 1e9)
    if spec.ram_gib is not None:
        # The same for both: no swap, which would make an engine slow instead of ending it.
        config["Memory"] = config["MemorySwap"] = int(spec.ram_gib * _GIB)
    if spec.gpus:
        config["DeviceRequests"] = [{"Driver": "", "DeviceIDs": list(spec.gpus), "Capabilities": [["gpu"]]}]
    if options.runtime is not None:
        config["Runtime"] = options.runtime
    if spec.fetch is not None:
        more = weights(spec.fetch, options.models, read_only=True)
        config |= more | {"Mounts": config["Mounts"] + more.get("Mounts", [])}
    return config


def guarded(options: DockerOptions) -> dict[str, Any]:
    """What holds for every container, that of a step included."""
    log_each = max(1, int(options.log_mib * 1024 / 2))
    config: dict[str, Any] = {
        "RestartPolicy": {"Name": "no"},
        "SecurityOpt": ["no-new-privileges"],
        "CapDrop": ["ALL"],
        "PidsLimit": options.pids_max,
        "Init": options.init,
        "LogConfig": {"Type": "json-file", "Config": {"max-size": f"{log_each}k", "max-file": "2"}},
    }
    if options.network is not None:
        config["NetworkMode"] = options.network
    return config


def folders(options: DockerOptions) -> list[dict[str, Any]]:
    """The folders of the daemon's host that every container sees."""
    return [
        {"Type": "bind", "Source": each.source, "Target": each.path, "ReadOnly": each.read_only}
        for each in options.folders
    ]


def _mounts(spec: WorkerSpec, options: DockerOptions, installation: str) -> list[dict[str, Any]]:
    wanted: list[tuple[str, str, str, bool]] = []
    for each in spec.mounts:
        if each.held is None:
            wanted.append(("bind", each.source, each.path or each.source, each.read_only))
        else:
            wanted.append(("volume", name_of(each.held, installation), each.path or each.source, each.read_only))
    return folders(options) + [
        {"Type": kind, "Source": source, "Target": target, "ReadOnly": read_only}
        for kind, source, target, read_only in wanted
    ]


def weights(fetch: ModelFetch, models: str | None, *, read_only: bool) -> dict[str, Any]:
    """How a container sees these weights, and no others: part of its `HostConfig`. A volume for each model, since not
    every daemon can show a part of one. Raises `Invalid`.
    """
    if models is None:
        raise Invalid("the docker provider has no cache of models: name one with its option models")
    target = f"{MODELS_AT}/{fetch.key}"
    if models.startswith("/"):
        # As a bind the daemon makes the folder where there is none.
        return {"Binds": [f"{models}/{fetch.key}:{target}:{'ro' if read_only else 'rw'}"]}
    more = {"NoCopy": True, "Labels": {MODEL: fetch.name}}
    name = f"{models}-{fetch.key}"
    mount = {"Type": "volume", "Source": name, "Target": target, "ReadOnly": read_only, "VolumeOptions": more}
    return {"Mounts": [mount]}


def _hostname(name: str) -> str:
    # A label of the Domain Name System has 63 characters at most.
    return name[-63:].strip("-.") or "worker"


def observed(container: Mapping[str, Any], address: Address | None) -> Observed:
    """A container as the daemon describes it in full."""
    worker, state = WorkerId(container["Config"]["Labels"][WORKER]), container["State"]
    if state["Status"] not in OVER:
        return Observed(id=worker, running=True, address=address)
    return Observed(id=worker, running=False, exit=_exit(state, container))


def _exit(state: Mapping[str, Any], container: Mapping[str, Any]) -> Exit | None:
    if state["FinishedAt"] == _NEVER:
        why = state.get("Error") or "its start was broken off"
        return Exit(code=None, at=seconds_of(container["Created"]), reason=f"never ran: {why}")
    code = int(state["ExitCode"])
    if state.get("OOMKilled") and code:
        limit = container["HostConfig"].get("Memory")
        of = f" of {limit / _GIB:g} GiB" if limit else ""
        return Exit(code=-9, at=seconds_of(state["FinishedAt"]), reason=f"out of memory: killed at its limit{of}")
    if state.get("Error"):
        return Exit(code=code, at=seconds_of(state["FinishedAt"]), reason=f"exited with code {code}: {state['Error']}")
    try:
        signal = Signals(code - _SIGNALLED) if code > _SIGNALLED else None
    except ValueError:
        signal = None
    if signal is None:
        return Exit(code=code, at=seconds_of(state["FinishedAt"]), reason=f"exited with code {code}")
    reason = f"killed by signal {signal.value} ({signal.name})"
    return Exit(code=-signal.value, at=seconds_of(state["FinishedAt"]), reason=reason)


def address_of(container: Mapping[str, Any], options: DockerOptions) -> Address | None:
    """Where the worker is reached; `None` while it has no address, or listens nowhere."""
    labels, networks = container["Labels"], container.get("NetworkSettings", {}).get("Networks") or {}
    if options.published:
        return Address(host=options.publish, port=int(labels[PORT])) if PORT in labels else None
    own = next((each["IPAddress"] for each in networks.values() if each.get("IPAddress")), None)
    return Address(host=own, port=int(labels[LISTEN])) if own and LISTEN in labels else None


class Pauses:
    """Since when containers are paused: the daemon does not say."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}

    def seen(self, listed: Mapping[str, Any], *, now: float) -> str:
        """Why it should serve no more; nothing when it runs, or has been paused for a moment. `now` is in seconds."""
        if listed["State"] != "paused":
            self._since.pop(listed["Id"], None)
            return ""
        return "its container is paused" if now - self._since.setdefault(listed["Id"], now) >= PAUSED_S else ""

    def keep(self, ids: Collection[str]) -> None:
        """Forget all but these."""
        self._since = {container: since for container, since in self._since.items() if container in ids}
