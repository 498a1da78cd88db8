"""What a provider is asked to run for a worker: its launch with addresses and cards filled in. Pure."""

from __future__ import annotations

import sys

from stoker.control.managed import Managed
from stoker.control.provisions import Provision
from stoker.domain.endpoint import Endpoint
from stoker.domain.launch import Launch, SecretRef
from stoker.domain.probe import Probes
from stoker.domain.volumes import Mount
from stoker.domain.worker import Worker, WorkerSpec

# Where programs that are told their port listen, in a network of their own.
OWN_PORT = 8000


def worker_spec(
    endpoint: Endpoint,
    launch: Launch,
    worker: Worker,
    managed: Managed,
    provision: Provision,
    probes: Probes | None = None,
) -> WorkerSpec:
    """What the provider is asked to run for this worker: its launch with addresses and cards filled in."""
    placement = worker.placement
    port = None if placement is None else placement.port
    ports = {} if placement is None else launch.mapped(placement)
    inside = managed.provider.own_network
    listen = (launch.port or port or OWN_PORT) if inside else port
    host = "0.0.0.0" if inside else "127.0.0.1"
    fill = {"{host}": host, "{port}": str(listen or ""), "{model}": launch.models[0] if launch.models else ""}
    # In an image it has whatever name it has everywhere.
    fill["{python}"] = "python3" if managed.provider.images else sys.executable
    fill |= provision.fill
    plain = {variable: value for variable, value in launch.env.items() if isinstance(value, str)}
    secrets = {variable: value.secret for variable, value in launch.env.items() if isinstance(value, SecretRef)}
    devices = () if placement is None else managed.devices(placement.host, placement.gpus)
    # In a network of their own workers have the ports that they declare.
    fill |= {f"{{port_{declared}}}": str(declared if inside else own) for declared, own in ports.items()}
    if inside and not ports:
        fill |= {f"{{port_{declared}}}": str(declared) for declared in launch.ports}
    virtual = any(gpu.virtual for gpu in devices)
    return WorkerSpec(
        id=worker.id,
        endpoint=endpoint.id,
        name=f"{endpoint.slug}-{worker.number}",
        command=tuple(_filled(argument, fill) for argument in launch.command),
        image=launch.image,
        env={**plain, **provision.env},
        base=launch.base,
        mounts=(*provision.mounts, *_seen(launch)),
        project=endpoint.project,
        secrets=secrets,
        credential=launch.credential,
        port=port,
        gpus=tuple(gpu.id for gpu in devices if not gpu.virtual),
        virtual_gpus=tuple(gpu.index for gpu in devices if gpu.virtual),
        ports=ports,
        ping_s=launch.ping_s,
        listen=listen if inside else None,
        vcpu=None if placement is None or virtual else placement.vcpu,
        ram_gib=None if placement is None or virtual else placement.ram_gib,
        host=None if placement is None else placement.host,
        probes=probes,
        drain_s=endpoint.spec.rollout.drain_timeout_s,
        grace_s=endpoint.spec.rollout.grace_s,
        fetch=provision.fetch,
    )


def _seen(launch: Launch) -> tuple[Mount, ...]:
    """What the host has of a model that nobody needs to fetch."""
    return tuple(Mount(name="model", source=path, path=path, read_only=True) for path in launch.files)


def _filled(argument: str, values: dict[str, str]) -> str:
    for placeholder, value in values.items():
        argument = argument.replace(placeholder, value)
    return argument
