"""What a worker in a network of its own is told of itself, whatever runs it. Pure; called by providers."""

from __future__ import annotations

from stoker.domain.worker import WorkerSpec


def listens_at(spec: WorkerSpec) -> int | None:
    """The port that the program listens on."""
    return spec.port if spec.listen is None else spec.listen


def environ(spec: WorkerSpec) -> dict[str, str]:
    """Its environment: what was asked for, with its addresses and cards."""
    listen, found = listens_at(spec), dict(spec.env)
    found |= {"STOKER_WORKER_ID": spec.id, "HOST": "0.0.0.0"}
    # Else the output of a Python program that ends badly would end with it.
    found.setdefault("PYTHONUNBUFFERED", "1")
    if listen is not None:
        found["PORT"] = str(listen)
    for declared in spec.ports:
        found[f"PORT_{declared}"] = str(declared)
    if spec.virtual_gpus:
        found["STOKER_GPU_SLOTS"] = ",".join(map(str, spec.virtual_gpus))
    if not spec.gpus:
        # Where the NVIDIA runtime is the default, an image may otherwise take all cards by itself.
        found["NVIDIA_VISIBLE_DEVICES"] = "void"
    return found
