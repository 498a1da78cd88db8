"""The OpenAI-compatible front: which endpoint a body's `model` means, and the list of models.

Reads of a body no more than `model`, and changes nothing in it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from stoker.gateway import answers
from stoker.gateway.access import Caller, Verdict
from stoker.gateway.answers import Answer
from stoker.gateway.head import Request
from stoker.gateway.multipart import Field
from stoker.gateway.table import Table
from stoker.link.messages import EndpointEntry

BODY_BYTES_MAX: Final = 8 * 1024 * 1024
_KNOWN_SHOWN_MAX: Final = 10
_NO_KEY: Final = "a key is needed: Authorization: Bearer sk-..."


class _Body(msgspec.Struct):
    model: str | None = None


_decoder: msgspec.json.Decoder[_Body] = msgspec.json.Decoder(_Body)


def invocable(caller: Caller, entries: Iterable[EndpointEntry]) -> list[EndpointEntry]:
    """Those that the caller may invoke: its project's and those it is attached to, or else those open to everybody."""
    allowed = [entry for entry in entries if caller.may_call(entry) is Verdict.ALLOWED]
    key = caller.key
    if key is None:
        return allowed
    own = [entry for entry in allowed if entry.project == key.project or entry.access == "attached"]
    return own or allowed


def by_header(table: Table, caller: Caller, reference: bytes) -> EndpointEntry | Answer:
    """The endpoint that `X-Stoker-Endpoint` names."""
    entry = table.by_reference(reference.decode("latin-1"))
    verdict = Verdict.UNKNOWN if entry is None and caller.key is None else None
    if entry is not None:
        verdict = caller.may_call(entry)
        if verdict is Verdict.ALLOWED:
            return entry
    if verdict is Verdict.UNKNOWN:
        return answers.failure(401, "invalid_api_key", _NO_KEY, openai=True)
    return _not_found(table, caller, reference.decode("latin-1"))


def by_model(table: Table, caller: Caller, model: str) -> EndpointEntry | Answer:
    """The endpoint that a model's name means to this caller."""
    found = invocable(caller, table.named(model))
    if found and (found[0].slug == model or len(found) == 1):
        return found[0]
    if not found:
        found = invocable(caller, table.serving(model))
        if len(found) == 1:
            return found[0]
    if found:
        candidates = sorted(entry.slug for entry in found)
        detail = f"the model {model!r} is served by more than one endpoint; name one of them: {', '.join(candidates)}"
        extra: dict[str, object] = {"candidates": candidates}
        return answers.failure(400, "model_ambiguous", detail, openai=True, extra=extra)
    if caller.key is None:
        return answers.failure(401, "invalid_api_key", _NO_KEY, openai=True)
    return _not_found(table, caller, model)


def _not_found(table: Table, caller: Caller, model: str) -> Answer:
    known = sorted(entry.slug for entry in invocable(caller, table.endpoints.values()))
    listed = ", ".join(known[:_KNOWN_SHOWN_MAX]) or "none"
    more = f" and {len(known) - _KNOWN_SHOWN_MAX} more" if len(known) > _KNOWN_SHOWN_MAX else ""
    detail = f"no model {model[:200]!r} for this key; there are: {listed}{more}"
    return answers.failure(404, "model_not_found", detail, openai=True)


def list_models(table: Table, caller: Caller) -> Answer:
    """`GET /v1/models`: what may stand in `model` for this caller."""
    models = _models(table, caller)
    if not models and caller.key is None:
        return answers.failure(401, "invalid_api_key", _NO_KEY, openai=True)
    return answers.json_answer({"object": "list", "data": list(models.values())})


def show_model(table: Table, caller: Caller, model: str) -> Answer:
    """`GET /v1/models/{model}`."""
    found = _models(table, caller).get(model)
    if found is not None:
        return answers.json_answer(found)
    if caller.key is None:
        return answers.failure(401, "invalid_api_key", _NO_KEY, openai=True)
    return _not_found(table, caller, model)


def _models(table: Table, caller: Caller) -> dict[str, object]:
    entries = sorted(invocable(caller, table.endpoints.values()), key=lambda entry: entry.number)
    names: dict[str, EndpointEntry] = {entry.slug: entry for entry in entries}
    for entry in entries:
        for model in entry.models:
            names.setdefault(model, entry)
    return {
        name: {"id": name, "object": "model", "created": int(entry.created_s), "owned_by": "stoker"}
        for name, entry in names.items()
    }


def model_of(request: Request, field: Field | None = None) -> str | Answer:
    """The `model` of a body, which stays in the request: of a form's `field`, else of a complete body of JSON."""
    if field is not None:
        field.look(request)
        return field.value or _model_missing()
    body = b"".join(request.pending)
    request.pending = [body] if body else []
    try:
        model = _decoder.decode(body).model
    except msgspec.DecodeError as exc:
        detail = f"the body must be a JSON object with a text `model`, or X-Stoker-Endpoint must name one: {exc}"
        return answers.failure(400, "invalid_body", detail, openai=True)
    return _model_missing() if model is None else model


def _model_missing() -> Answer:
    detail = "say which model is meant: `model` in the body, or the header X-Stoker-Endpoint"
    return answers.failure(400, "model_missing", detail, openai=True)
