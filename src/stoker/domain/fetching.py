"""Weights that a step before a worker brings into a cache at its provider: what it is told, and what it tells. Pure.

Providers write the order into the step's environment and read its lines; `stoker.models.step` is the step.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import msgspec

from stoker.domain.addresses import UrlRules
from stoker.domain.models import ModelSource, SourceKind, WeightsKey

COMMAND = ("python", "-m", "stoker.models.step")
VARIABLE = "STOKER_FETCH"
TOKEN_VARIABLE = "STOKER_FETCH_TOKEN"
# Where the step has the whole cache, and each worker the part with its weights.
MODELS_AT = "/var/lib/stoker-models"
STEP_PERCENT = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFetch:
    """Weights that have to be in the provider's cache before a worker starts. `name` is what people call the model.

    `hub` is the address of Hugging Face or its mirror, `rules` say which addresses may be opened, and `bytes_per_s` is
    the most that comes in a second (`None`: no limit). `token_secret` names the secret that the download is authorised
    with; its value is looked up right before the start, and never shown.
    """

    key: WeightsKey
    name: str
    source: ModelSource
    sha256: str | None
    hub: str
    rules: UrlRules
    bytes_per_s: float | None = None
    token_secret: str | None = None
    token: str | None = field(default=None, repr=False)

    @property
    def place(self) -> str:
        """Where workers find the weights below the cache, which is known before they are there."""
        return f"{self.key}/{LINK if self.source.expects_gguf else 'files'}"


# Of weights that are one GGUF file, whatever that is called.
LINK = "model.gguf"


class _Order(msgspec.Struct, frozen=True, omit_defaults=True):
    """A fetch on its way to the step. `private` is whether all addresses may be opened, `networks` which besides the
    public ones.
    """

    folder: str
    key: str
    name: str
    kind: SourceKind
    location: str
    hub: str
    file: str | None = None
    revision: str | None = None
    sha256: str | None = None
    private: bool = False
    networks: tuple[str, ...] = ()
    bytes_per_s: float | None = None


def order(fetch: ModelFetch, *, folder: str = MODELS_AT) -> str:
    """What the step finds in its environment, all but the token; `folder` is where it has the cache."""
    source, rules = fetch.source, fetch.rules
    made = _Order(
        folder=folder,
        key=fetch.key,
        name=fetch.name,
        kind=source.kind,
        location=source.location,
        hub=fetch.hub,
        file=source.file,
        revision=source.revision,
        sha256=fetch.sha256,
        private=rules.allow_private,
        networks=tuple(map(str, rules.networks)),
        bytes_per_s=fetch.bytes_per_s,
    )
    return msgspec.json.encode(made).decode()


def ordered(text: str, token: str | None) -> tuple[ModelFetch, str]:
    """The fetch, and the folder that the cache is in. Raises `ValueError`."""
    found = msgspec.json.decode(text, type=_Order)
    source = ModelSource(kind=found.kind, location=found.location, file=found.file, revision=found.revision)
    rules = UrlRules(found.private, UrlRules.parse(found.networks).networks)
    fetch = ModelFetch(
        key=WeightsKey(found.key),
        name=found.name,
        source=source,
        sha256=found.sha256,
        hub=found.hub,
        rules=rules,
        bytes_per_s=found.bytes_per_s,
        token=token,
    )
    return fetch, found.folder


class StepLine(msgspec.Struct, frozen=True, omit_defaults=True):
    """A line of the step's output. `waiting`: another one fetches the same weights into the same cache."""

    state: Literal["fetching", "waiting", "ready", "failed"]
    done_bytes: int = 0
    total_bytes: int | None = None
    error: str = ""

    @property
    def percent(self) -> int | None:
        """How much is there, rounded down; `None` where that is not known."""
        return None if not self.total_bytes else min(100, self.done_bytes * 100 // self.total_bytes)

    def encode(self) -> str:
        """As it is printed."""
        return msgspec.json.encode(self).decode()

    @classmethod
    def read(cls, text: str) -> StepLine | None:
        """`None` for a line that something else has printed."""
        try:
            return msgspec.json.decode(text, type=cls)
        except msgspec.DecodeError:
            return None


def words_of(line: StepLine | None, name: str) -> str:
    """How far the step is, for people; `line` is the last that it has said."""
    if line is None or line.state == "ready":
        return f"downloading model {name}"
    if line.state == "waiting":
        return f"another worker is downloading model {name}"
    return f"downloading model {name}" if line.percent is None else f"downloading model {line.percent} %"


def failure_of(lines: list[str], name: str, otherwise: str) -> str:
    """Why the step has failed, out of the last lines that it has said; `otherwise` is all that is known without."""
    said = [found for text in lines if (found := StepLine.read(text)) is not None and found.state == "failed"]
    if said:
        return f"the model {name!r} could not be fetched: {said[-1].error}"
    rest = "\n".join(text for text in lines if text and StepLine.read(text) is None)[-2_000:]
    return f"the model {name!r} could not be fetched: {otherwise}" + (f"; its last output:\n{rest}" if rest else "")
