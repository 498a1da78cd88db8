"""What a llama.cpp worker runs: the HTTP server inside `xllamacpp`, with the few options that Stoker's launches use.

Standard library and `xllamacpp` only, so that it starts at once. The log goes to stderr. Exit codes: 0 after SIGTERM or
SIGINT, 1 when it cannot serve, 2 for bad usage.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    options = argparse.ArgumentParser(prog="llamacpp_server", description=__doc__, allow_abbrev=False)
    add = options.add_argument
    add("--model", required=True)
    add("--host", default="127.0.0.1")
    add("--port", type=int, required=True)
    add("--alias", action="append", default=[])
    add("--slots", type=int, default=4)
    add("--ctx-size-per-slot", type=int, default=2048)
    # 8 GiB is llama.cpp's own, too much for several workers on one machine.
    add("--cache-ram", type=int, default=512)
    for name in ("threads", "threads-batch", "batch-size", "ubatch-size", "n-gpu-layers", "main-gpu", "n-predict"):
        add(f"--{name}", type=int)
    for name in ("seed", "top-k"):
        add(f"--{name}", type=int)
    for name in ("temp", "top-p", "min-p", "rope-freq-base", "rope-freq-scale"):
        add(f"--{name}", type=float)
    for name in ("cache-type-k", "cache-type-v", "flash-attn", "chat-template"):
        add(f"--{name}")
    for name in ("cache-prompt", "context-shift", "embeddings", "warmup"):
        add(f"--{name}", action=argparse.BooleanOptionalAction)
    return options


def main() -> int:
    """Serve until SIGTERM or SIGINT."""
    options = parser().parse_args()
    if not os.path.isfile(options.model):
        return _refuse(f"there is no file {options.model}")
    try:
        import xllamacpp
    except ImportError as exc:
        return _refuse(f"xllamacpp is not installed in {sys.executable} ({exc}); install it by: pip install xllamacpp")
    if (reason := _taken(options.host, options.port)) is not None:
        return _refuse(f"cannot listen on {options.host}:{options.port}: {reason}")
    try:
        params = _params(xllamacpp, options)
    except (AttributeError, TypeError, ValueError, OverflowError) as exc:
        return _refuse(f"this xllamacpp does not take an option: {exc}")
    # Until it is loaded, Python handles no signals: the default action ends the process at once, as it should.
    try:
        server = xllamacpp.Server(params)
    except RuntimeError as exc:
        return _refuse(f"llama.cpp could not load {options.model}: {exc}")
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end)
    _say(f"serving {options.model} at {server.listening_address}")
    while True:
        signal.pause()


def _end(number: int, frame: object) -> None:
    # Not sys.exit: taking llama.cpp down in order waits for running requests, and these have been drained before.
    os._exit(0)


def _refuse(reason: str) -> int:
    _say(reason)
    return 1


def _say(text: str) -> None:
    sys.stderr.write(f"llamacpp_server: {text}\n")
    sys.stderr.flush()


def _taken(host: str, port: int) -> str | None:
    """Why the port cannot be had. llama.cpp notices too, but its message is one of many lines."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            # As the server does it, so that connections of a predecessor in TIME_WAIT are no obstacle.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen(1)
    except OSError as exc:
        return exc.strerror or str(exc)
    return None


def _cpus() -> int:
    """CPUs that this process may use: by affinity, and by the quota of its control group."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = CPU_QUOTA.read_text().split()
        return max(1, min(count, int(quota) // int(period)))
    except (OSError, ValueError):
        # No control group, or "max": no quota.
        return count


def _params(xllamacpp: Any, options: argparse.Namespace) -> Any:
    params = xllamacpp.CommonParams()
    params.model.path = options.model
    params.model_alias = set(options.alias)
    params.hostnames = [options.host]
    params.port = options.port
    params.n_parallel = options.slots
    params.n_ctx = options.ctx_size_per_slot * options.slots
    params.cache_ram_mib = options.cache_ram
    params.cpuparams.n_threads = options.threads or _cpus()
    params.cpuparams_batch.n_threads = options.threads_batch or params.cpuparams.n_threads
    params.endpoint_metrics = True
    # Shows one caller's parameters to another.
    params.endpoint_slots = False
    params.ui = False
    # A page in a browser on this machine has no business with a worker; the gateway decides about origins.
    params.cors_origins = ""
    _optional(params, options)
    _enums(params, options, xllamacpp)
    return params


def _optional(params: Any, options: argparse.Namespace) -> None:
    """What is left alone unless said: the model's or llama.cpp's own default holds."""
    fields = {
        "batch_size": (params, "n_batch"),
        "ubatch_size": (params, "n_ubatch"),
        "n_gpu_layers": (params, "n_gpu_layers"),
        "main_gpu": (params, "main_gpu"),
        "n_predict": (params, "n_predict"),
        "rope_freq_base": (params, "rope_freq_base"),
        "rope_freq_scale": (params, "rope_freq_scale"),
        "chat_template": (params, "chat_template"),
        "cache_prompt": (params, "cache_prompt"),
        "context_shift": (params, "ctx_shift"),
        "embeddings": (params, "embedding"),
        "warmup": (params, "warmup"),
        "seed": (params.sampling, "seed"),
        "temp": (params.sampling, "temp"),
        "top_k": (params.sampling, "top_k"),
        "top_p": (params.sampling, "top_p"),
        "min_p": (params.sampling, "min_p"),
    }
    for name, (target, field) in fields.items():
        value = getattr(options, name)
        if value is not None:
            setattr(target, field, value)


def _enums(params: Any, options: argparse.Namespace, xllamacpp: Any) -> None:
    for field in ("cache_type_k", "cache_type_v"):
        if value := getattr(options, field):
            setattr(params, field, getattr(xllamacpp.ggml_type, f"GGML_TYPE_{value.upper()}"))
    if options.flash_attn:
        word = {"on": "ENABLED", "off": "DISABLED", "auto": "AUTO"}[options.flash_attn]
        params.flash_attn_type = getattr(xllamacpp.llama_flash_attn_type, f"LLAMA_FLASH_ATTN_TYPE_{word}")


if __name__ == "__main__":
    sys.exit(main())
