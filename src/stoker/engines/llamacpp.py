"""llama.cpp, which serves a GGUF file on CPUs and on GPUs: the launch of Stoker's own small server around it.

vLLM's parameters are understood too: those with an equivalent are translated, the others noted as not applied. So one
spec runs on a GPU machine and on a laptop. Called by control when an endpoint is created or changed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from stoker.domain.errors import Invalid
from stoker.domain.hardware import HardwareRequest
from stoker.domain.launch import Launch, LaunchSpec
from stoker.domain.probe import Probe
from stoker.domain.weights import VideoMemory
from stoker.engines import vllm
from stoker.engines.base import Metric, ModelFile, Parameter
from stoker.engines.parameters import Given, check, last, pointer, whole

SERVER = "stoker.engines.llamacpp_server"
# Four slots share a CPU well: about a quarter more tokens a second than one, at little memory.
SLOTS = 4
# llama.cpp's own limit on sequences in one context.
SLOTS_MAX = 256
CONTEXT_TOKENS = 2_048
# Loading a large file from a slow disk; nothing is fetched.
PROBE = Probe(path="/health", period_s=2.0, start_timeout_s=600.0)
OWNED = {
    "host": "Stoker decides where a worker listens",
    "port": "Stoker decides where a worker listens",
    "model": "the model is said in launch.model",
    "alias": "the worker answers to the model's and the endpoint's names",
    **{name: reason for name, reason in vllm.OWNED.items() if name != "headless"},
}
_CACHE_TYPES = ("f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "iq4_nl", "q5_0", "q5_1")


def _option(
    flags: str, kind: str, default: str | None, section: str, description: str, *allowed: str, nargs: str | None = None
) -> Parameter:
    all_flags = tuple(flags.split())
    return Parameter(
        name=all_flags[0].removeprefix("--"),
        flags=all_flags,
        type=kind,
        default=default,
        allowed=allowed,
        section=section,
        description=description,
        nargs=nargs,
        closed=bool(allowed),
    )


TABLE: tuple[Parameter, ...] = (
    _option("--slots --parallel -np", "integer", str(SLOTS), "Server", "Requests served at once."),
    _option(
        "--ctx-size-per-slot",
        "integer",
        str(CONTEXT_TOKENS),
        "Server",
        "Longest context (prompt plus output) of one request in tokens.",
    ),
    _option("--ctx-size -c", "integer", None, "Server", "Context of all slots together in tokens."),
    _option("--threads -t", "integer", None, "CPU", "Threads for generation; by default all CPUs it may use."),
    _option("--threads-batch -tb", "integer", None, "CPU", "Threads for prompts; by default the same number."),
    _option("--batch-size -b", "integer", "2048", "Server", "Most prompt tokens submitted together."),
    _option("--ubatch-size -ub", "integer", "512", "Server", "Most prompt tokens computed together."),
    _option("--n-gpu-layers --gpu-layers -ngl", "integer", None, "GPU", "Layers on GPUs; -1: as many as fit."),
    _option("--main-gpu -mg", "integer", "0", "GPU", "The card that holds what is not split."),
    _option("--flash-attn -fa", "enum", "auto", "Cache", "Flash attention.", "on", "off", "auto"),
    _option("--cache-type-k -ctk", "enum", "f16", "Cache", "Type of cached keys.", *_CACHE_TYPES),
    _option("--cache-type-v -ctv", "enum", "f16", "Cache", "Type of cached values.", *_CACHE_TYPES),
    _option(
        "--cache-prompt --no-cache-prompt", "boolean", "True", "Cache", "Reuse the cache of a common prompt start."
    ),
    _option("--cache-ram -cram", "integer", "512", "Cache", "Prompts kept in memory, in MiB; 0: none."),
    _option("--context-shift --no-context-shift", "boolean", "False", "Cache", "Drop the oldest tokens when full."),
    _option("--n-predict --predict -n", "integer", "-1", "Sampling", "Longest output in tokens; -1: what fits."),
    _option("--seed -s", "integer", None, "Sampling", "Default seed; without it, a new one for each request."),
    _option("--temp --temperature", "number", "0.8", "Sampling", "Default temperature."),
    _option("--top-k", "integer", "40", "Sampling", "Default top-k."),
    _option("--top-p", "number", "0.95", "Sampling", "Default top-p."),
    _option("--min-p", "number", "0.05", "Sampling", "Default min-p."),
    _option("--chat-template", "string", None, "Server", "A Jinja template, or the name of a built-in one."),
    _option("--rope-freq-base", "number", None, "Context", "RoPE base frequency; by default the model's."),
    _option("--rope-freq-scale", "number", None, "Context", "RoPE frequency scale; by default the model's."),
    _option("--embeddings --embedding", "boolean", "False", "Server", "Serve embeddings instead of text."),
    _option("--warmup --no-warmup", "boolean", "True", "Server", "Run the model once before saying ready."),
    *(_option(f"--{name}", "string", None, "Stoker", "Set by Stoker.") for name in ("host", "port", "model", "alias")),
)
# vLLM's name → ours.
EQUIVALENT: Mapping[str, str] = {
    "max-model-len": "ctx-size-per-slot",
    "max-num-seqs": "slots",
    "max-num-batched-tokens": "batch-size",
    "enable-prefix-caching": "cache-prompt",
}
_LEAST: Mapping[str, int] = {"slots": 1, "ctx-size-per-slot": 8, "threads": 1, "batch-size": 1}
# These decide the command's first part and are not repeated as they were given.
_COMPUTED = frozenset({"slots", "ctx-size-per-slot", "ctx-size", "threads", "n-gpu-layers"})


class LlamaCpp:
    """Launches Stoker's llama.cpp server with the Python that runs Stoker."""

    name = "llamacpp"
    # Stoker's own server is in no image but Stoker's.
    image = None
    version = None
    metrics: Mapping[str, Metric] = {
        "running": Metric(("llamacpp:requests_processing",)),
        "waiting": Metric(("llamacpp:requests_deferred",)),
        "prompt_tokens": Metric(("llamacpp:prompt_tokens_total",)),
        "completion_tokens": Metric(("llamacpp:tokens_predicted_total",)),
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
        """See `Engine.launch`. Without a word about it, a worker has 4 slots of 2,048 tokens each."""
        if model.path is None or not model.gguf:
            raise Invalid.at("/launch/model", f"llama.cpp loads GGUF files, and {model.name!r} is none")
        version = spec.engine_version or vllm.DEFAULT_VERSION
        tables = (TABLE, vllm.table(version))
        given = check(spec.parameters, tables, engine="llama.cpp", owned=OWNED, scaled=vllm.SCALED)
        notes = [f"vLLM {version} was asked for, llama.cpp runs"] if spec.engine_version else []
        values, rest = _translated(given, notes)
        count, context = _slots_and_context(values, slots)
        served = tuple(dict.fromkeys((model.name, *model.aliases, *names)))
        return Launch(
            engine=self.name,
            command=(
                *("{python}", "-m", SERVER, "--model", model.path, "--host", "{host}", "--port", "{port}"),
                *(f"--alias={name}" for name in served),
                *("--slots", str(count), "--ctx-size-per-slot", str(context)),
                *_hardware_arguments(values, hardware),
                *rest,
            ),
            env=dict(spec.env),
            port=spec.port,
            probe=PROBE,
            models=served,
            lists_models=True,
            slots=count,
            notes=tuple(notes),
        )

    def video_memory(self, spec: LaunchSpec, hardware: HardwareRequest, *, card_gib: float) -> VideoMemory | None:
        """See `Engine.video_memory`. Whoever says `--n-gpu-layers` may leave the rest to the CPU."""
        tables = (TABLE, vllm.table(spec.engine_version or vllm.DEFAULT_VERSION))
        given = check(spec.parameters, tables, engine="llama.cpp", owned=OWNED, scaled=vllm.SCALED)
        if last(given, "n-gpu-layers") is not None:
            return None
        few = "say with --n-gpu-layers how many layers go there"
        return VideoMemory(cards=hardware.gpu_count, card_gib=card_gib, otherwise=few)

    def parameters(self, version: str | None) -> tuple[Parameter, ...]:
        """See `Engine.parameters`. There is one version: the llama.cpp inside the installed `xllamacpp`."""
        if version is not None:
            raise Invalid.at("/launch/engine_version", "llama.cpp comes in one version, the installed one")
        return tuple(parameter for parameter in TABLE if parameter.name not in OWNED)


def _translated(given: Sequence[Given], notes: list[str]) -> tuple[dict[str, Given], list[str]]:
    """The parameters that decide slots, context, threads and GPUs, and the other arguments for the server."""
    own = {id(parameter): parameter.name for parameter in TABLE}
    values: dict[str, Given] = {}
    rest: list[str] = []
    for item in given:
        name = own.get(id(item.parameter)) or EQUIVALENT.get(item.parameter.name)
        if name is None:
            notes.append(f"{' '.join(item.arguments)} was not applied: llama.cpp has nothing like it")
            continue
        if name in _LEAST and (whole(item.value) or 0) < _LEAST[name]:
            raise Invalid.at(pointer(item.index), f"{item.flag} must be at least {_LEAST[name]}, not {item.value}")
        if name in _COMPUTED:
            values[name] = item
        else:
            rest += _argument(name, item)
    return values, rest


def _argument(name: str, item: Given) -> list[str]:
    if item.parameter.type == "boolean":
        return [f"--{name}" if item.on else f"--no-{name}"]
    number = whole(item.value) if item.parameter.type == "integer" else None
    return [f"--{name}={item.value if number is None else number}"]


def _slots_and_context(values: Mapping[str, Given], wish: int | None) -> tuple[int, int]:
    """How many slots, and tokens of context for each. `--ctx-size` is that of all slots, as in llama.cpp's server."""
    slots = values.get("slots")
    count = (whole(slots.value) or 0) if slots else (wish or SLOTS)
    if count > SLOTS_MAX:
        where = pointer(slots.index) if slots else "/slots"
        raise Invalid.at(where, f"llama.cpp serves at most {SLOTS_MAX} requests at once, not {count}")
    if each := values.get("ctx-size-per-slot"):
        return count, whole(each.value) or CONTEXT_TOKENS
    if total := values.get("ctx-size"):
        context = (whole(total.value) or 0) // count
        if context < _LEAST["ctx-size-per-slot"]:
            raise Invalid.at(pointer(total.index), f"{total.flag} {total.value} is too little for {count} slots")
        return count, context
    return count, CONTEXT_TOKENS


def _hardware_arguments(values: Mapping[str, Given], hardware: HardwareRequest) -> list[str]:
    arguments: list[str] = []
    if threads := values.get("threads"):
        arguments += ["--threads", threads.value]
    elif hardware.vcpu_all is not None:
        arguments += ["--threads", str(max(1, int(hardware.vcpu_all)))]
    if layers := values.get("n-gpu-layers"):
        arguments.append(f"--n-gpu-layers={layers.value}")
    else:
        arguments.append(f"--n-gpu-layers={-1 if hardware.gpu_count else 0}")
    return arguments


ENGINE = LlamaCpp()
