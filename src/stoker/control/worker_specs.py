"""What a provider is asked to run for a worker: its launch with addresses and cards filled in. Pure."""

from __future__ import annotations

from stoker.control.managed import Managed
from stoker.control.provisions import Provision
from stoker.domain.endpoint import Endpoint, Launch, SecretRef
from stoker.domain.worker import Worker, WorkerSpec


def worker_spec(
    endpoint: Endpoint, launch: Launch, worker: Worker, managed: Managed, provision: Provision
) -> WorkerSpec:
    """What the provider is asked to run for this worker: its launch with addresses and cards filled in."""
    host = "127.0.0.1" if worker.address is None else worker.address.host
    port = None if worker.address is None else worker.address.port
    fill = {"{host}": host, "{port}": str(port or ""), "{model}": launch.models[0] if launch.models else ""}
    fill |= provision.fill
    placement = worker.placement
    plain = {variable: value for variable, value in launch.env.items() if isinstance(value, str)}
    secrets = {variable: value.secret for variable, value in launch.env.items() if isinstance(value, SecretRef)}
    devices = () if placement is None else managed.devices(placement.host, placement.gpus)
    ports = {} if placement is None else launch.mapped(placement)
    fill |= {f"{{port_{declared}}}": str(own) for declared, own in ports.items()}
    return WorkerSpec(
        id=worker.id,
        endpoint=endpoint.id,
        name=f"{endpoint.slug}-{worker.number}",
        command=tuple(_filled(argument, fill) for argument in launch.command),
        image=launch.image,
        env={**plain, **provision.env},
        mounts=provision.mounts,
        project=endpoint.project,
        secrets=secrets,
        credential=launch.credential,
        port=port,
        gpus=tuple(gpu.id for gpu in devices if not gpu.virtual),
        virtual_gpus=tuple(gpu.index for gpu in devices if gpu.virtual),
        ports=ports,
        ping_s=launch.ping_s,
    )


def _filled(argument: str, values: dict[str, str]) -> str:
    for placeholder, value in values.items():
        argument = argument.replace(placeholder, value)
    return argument
