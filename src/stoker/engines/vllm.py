"""vLLM: `vllm serve`, a program of the worker's machine or image and no dependency of Stoker.

Parameters are checked against the tables of two versions. Called by control when an endpoint is created or changed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from math import prod

from stoker.domain.errors import Invalid
from stoker.domain.hardware import HardwareRequest
from stoker.domain.launch import Launch, LaunchSpec, Sleep
from stoker.domain.probe import Probe
from stoker.domain.weights import VideoMemory
from stoker.engines.base import Metric, ModelFile, Parameter
from stoker.engines.parameters import Given, check, last, pointer, whole

VERSIONS = ("0.12.0", "0.15.1")
DEFAULT_VERSION = VERSIONS[0]
# vLLM's own --max-num-seqs as a server is 256, or 1024 on cards of 70 GiB and more. The smaller one: what is sent
# beyond a worker's own limit would queue inside it, out of sight of the scaling, while another worker could take it.
SLOTS = 256
# Fetching tens of gigabytes of weights and capturing CUDA graphs takes up to half an hour.
PROBE = Probe(path="/health", start_timeout_s=1800.0)
OWNED = {
    "host": "Stoker decides where a worker listens",
    "port": "Stoker decides where a worker listens",
    "uds": "Stoker reaches workers by host and port",
    "model": "the model is said in launch.model",
    "served-model-name": "the worker answers to the model's and the endpoint's names",
    "api-key": "Stoker checks keys itself and forwards none to a worker",
    "ssl-keyfile": "Stoker speaks plain HTTP to workers",
    "ssl-certfile": "Stoker speaks plain HTTP to workers",
    "ssl-ca-certs": "Stoker speaks plain HTTP to workers",
    "ssl-cert-reqs": "Stoker speaks plain HTTP to workers",
    "ssl-ciphers": "Stoker speaks plain HTTP to workers",
    "enable-ssl-refresh": "Stoker speaks plain HTTP to workers",
    "headless": "a worker without its HTTP server can serve nobody",
}
# Level 1 keeps the weights in the host's memory and gives back the card's; https://docs.vllm.ai, "Sleep Mode". The
# addresses are served in development mode only.
SLEEP = Sleep(sleep_path="/sleep?level=1", wake_path="/wake_up", frees=("vram",))
SLEEP_ENV = {"VLLM_SERVER_DEV_MODE": "1"}
# Whole numbers that vLLM also takes as 4k, 4K, 1M.
SCALED = frozenset({"max-model-len", "max-num-batched-tokens", "kv-cache-memory-bytes"})
_PARALLEL = ("tensor-parallel-size", "pipeline-parallel-size", "data-parallel-size")
# What makes the weights smaller than they are kept, or keeps some of them elsewhere.
_SMALLER = ("quantization", "load-format", "cpu-offload-gb", "hf-overrides", "model-loader-extra-config")
# The default of --gpu-memory-utilization.
SHARE = 0.9
_SEVERAL_HOSTS = ("nnodes", "data-parallel-size-local", "data-parallel-address", "data-parallel-rank")


@cache
def table(version: str) -> tuple[Parameter, ...]:
    """What that version of the server takes. Raises `Invalid` for a version that is not known."""
    if version not in VERSIONS:
        raise Invalid.at(
            "/launch/engine_version", f"no table for vLLM {version[:32]!r}; there are {' and '.join(VERSIONS)}"
        )
    text = files("stoker.engines").joinpath("data", f"vllm-parameters-{version}.json").read_text(encoding="utf-8")
    return tuple(
        Parameter(
            name=row["name"],
            flags=tuple(row["flags"]),
            type=row["type"],
            default=row["default"],
            allowed=tuple(row["allowed-values"] or ()),
            section=row["section"],
            description=row["description"],
            nargs=row["nargs"],
            closed=row["closed"],
        )
        for row in json.loads(text)
    )


class Vllm:
    """Launches `vllm serve`."""

    name = "vllm"
    image = "vllm/vllm-openai:v{version}"
    version = DEFAULT_VERSION
    metrics: Mapping[str, Metric] = {
        "running": Metric(("vllm:num_requests_running",)),
        "waiting": Metric(("vllm:num_requests_waiting",)),
        # The second name is that of versions before 0.10.
        "cache_usage": Metric(("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"), highest=True),
        "prompt_tokens": Metric(("vllm:prompt_tokens_total",)),
        "completion_tokens": Metric(("vllm:generation_tokens_total",)),
    }

    def launch(
        self,
        spec: LaunchSpec,
        model: ModelFile,
        hardware: HardwareRequest,
        *,
        names: tuple[str, ...],
        slots: int | None,
    ) -> Launch:
        """See `Engine.launch`. A worker takes `--max-num-seqs` requests at once for each data-parallel rank, else 256.
        Without a word about parallelism the model is split over all GPUs of the pool's hardware."""
        version = spec.engine_version or DEFAULT_VERSION
        given = check(spec.parameters, (table(version),), engine=f"vLLM {version}", owned=OWNED, scaled=SCALED)
        _check_gpus(given, hardware.gpu_count)
        mode = last(given, "enable-sleep-mode")
        sleeps = mode is not None and not mode.flag.startswith("--no-")
        notes: list[str] = []
        served = _served(model, (*model.aliases, *names), notes)
        extra: list[str] = []
        if hardware.gpu_count > 1 and not any(last(given, name) for name in (*_PARALLEL, *_SEVERAL_HOSTS)):
            extra += ["--tensor-parallel-size", str(hardware.gpu_count)]
        ranks = _count(given, "data-parallel-size")
        if slots is not None and last(given, "max-num-seqs") is None:
            extra += ["--max-num-seqs", str(max(1, slots // ranks))]
        return Launch(
            engine=self.name,
            command=(
                *("vllm", "serve", model.path or model.name, "--host", "{host}", "--port", "{port}"),
                *("--served-model-name", *served),
                *extra,
                *spec.parameters,
            ),
            env={**(SLEEP_ENV if sleeps else {}), **spec.env},
            port=spec.port,
            probe=PROBE,
            models=served,
            lists_models=True,
            slots=slots or _count(given, "max-num-seqs", SLOTS) * ranks,
            sleep=SLEEP if sleeps else None,
            notes=tuple(notes),
        )

    def video_memory(self, spec: LaunchSpec, hardware: HardwareRequest, *, card_gib: float) -> VideoMemory | None:
        """See `Engine.video_memory`. Weights are split over the cards of a tensor- and pipeline-parallel group."""
        version = spec.engine_version or DEFAULT_VERSION
        given = check(spec.parameters, (table(version),), engine=f"vLLM {version}", owned=OWNED, scaled=SCALED)
        if any(last(given, name) for name in (*_SEVERAL_HOSTS, *_SMALLER)):
            return None
        said = any(last(given, name) for name in _PARALLEL)
        split = _count(given, _PARALLEL[0]) * _count(given, _PARALLEL[1])
        share = last(given, "gpu-memory-utilization")
        dtype = last(given, "dtype")
        return VideoMemory(
            cards=split if said else hardware.gpu_count,
            card_gib=card_gib,
            share=SHARE if share is None else min(1.0, float(share.value)),
            halves=dtype is None or dtype.value not in ("float", "float32"),
        )

    def parameters(self, version: str | None) -> tuple[Parameter, ...]:
        """See `Engine.parameters`."""
        return table(version or DEFAULT_VERSION)


def _served(model: ModelFile, names: Sequence[str], notes: list[str]) -> tuple[str, ...]:
    served: list[str] = []
    for name in dict.fromkeys((model.name, *names)):
        if name.startswith("-"):
            notes.append(f"vLLM cannot be told the name {name!r}: it would read it as a parameter")
        else:
            served.append(name)
    return tuple(served)


def _count(given: Sequence[Given], name: str, default: int = 1) -> int:
    item = last(given, name)
    number = default if item is None else whole(item.value) or 0
    if item is not None and number < 1:
        raise Invalid.at(pointer(item.index), f"{item.flag} must be at least 1, not {item.value}")
    return number


def _check_gpus(given: Sequence[Given], gpu_count: int) -> None:
    """Parallelism that needs more cards than a worker gets can only fail later, at its start."""
    needed = prod(_count(given, name) for name in _PARALLEL)
    said = [item for name in _PARALLEL if (item := last(given, name)) is not None]
    if gpu_count and said and needed > gpu_count and not any(last(given, name) for name in _SEVERAL_HOSTS):
        raise Invalid.at(
            pointer(said[-1].index),
            f"{said[-1].flag} {said[-1].value} makes a worker need {needed} GPUs, and its hardware has {gpu_count}",
        )


ENGINE = Vllm()
