"""From what callers ask for to recorded tasks: checked against the endpoint, completed from it, added all at once.

Called by `stoker.queue.tasks` alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection

from stoker.domain.access import Principal, Sealed
from stoker.domain.addresses import UrlRefused, UrlRules
from stoker.domain.authorisation import Action, admit
from stoker.domain.endpoint import Endpoint, Phase
from stoker.domain.errors import Conflict, Invalid, Problem, TooLarge
from stoker.domain.pulling import is_input
from stoker.domain.queueing import Mode
from stoker.domain.task import (
    INPUT_BYTES_MAX,
    Body,
    KeptKey,
    OnDuplicate,
    Task,
    TaskDraft,
    TaskNumber,
    TaskState,
    WebhookSpec,
)
from stoker.queue.forms import WebhookForm
from stoker.store import secrets as secret_rows
from stoker.store import tasks as rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitted:
    """A task, and whether this submission made it."""

    task: Task
    created: bool


@dataclass(frozen=True, slots=True)
class Drafts:
    """What checking and completing drafts needs to know. `seal(id, key)` encrypts the key of a webhook."""

    rules: UrlRules
    forms: Mapping[str, WebhookForm]
    seal: Callable[[str, str], Sealed]
    clock: Callable[[], float]
    new_id: Callable[[], str]

    def check(self, by: Principal, endpoint: Endpoint, drafts: Sequence[TaskDraft]) -> None:
        """Raises `Invalid`, `Conflict` or `Forbidden`."""
        if endpoint.spec.mode is Mode.HTTP:
            raise Conflict("the endpoint takes no tasks: set its mode to queue or mixed")
        if endpoint.phase is Phase.DELETING:
            raise Conflict("the endpoint is being deleted")
        # Any worker may get the task.
        every = [endpoint.spec.launch_of(pool).declared for pool in endpoint.spec.pools]
        declared = tuple(port for port in every[0] if all(port in ports for ports in every))
        for index, draft in enumerate(drafts):
            if len(draft.input) > INPUT_BYTES_MAX:
                raise TooLarge.at(at(drafts, index, "input"), f"an input has at most {INPUT_BYTES_MAX} bytes")
            if endpoint.spec.queue.pull and not is_input(draft.input):
                raise Invalid.at(at(drafts, index, "input"), "workers that ask for tasks take JSON, and this is none")
            if draft.port is not None and draft.port not in declared:
                known = f"declared are {', '.join(map(str, declared))}" if declared else "none is declared"
                raise Invalid.at(at(drafts, index, "port"), f"not a port of the endpoint's workers: {known}")
            if draft.webhook_secret not in (None, endpoint.spec.webhooks.secret):
                admit(by, Action.SECRET_USE)
            if draft.webhook_url is not None:
                self._check_url(draft.webhook_url, at(drafts, index, "webhook/url"))

    def _check_url(self, url: str, pointer: str) -> None:
        try:
            self.rules.check(url)
        except UrlRefused as exc:
            raise Invalid(str(exc), problems=(Problem(pointer, str(exc)),)) from exc

    def made(self, endpoint: Endpoint, draft: TaskDraft, pointer: str) -> Task:
        """The task that a draft asks for; what it leaves out is as the endpoint says. Raises `Invalid`."""
        now, queue = self.clock(), endpoint.spec.queue
        ttl_s = draft.ttl_s if draft.ttl_s is not None else queue.ttl_s
        target = draft.target or queue.path
        return Task(
            number=TaskNumber(0),
            id=draft.id or self.new_id(),
            endpoint=endpoint.id,
            project=endpoint.project,
            state=TaskState.QUEUED,
            priority=draft.priority,
            method=draft.method,
            target=target,
            port=draft.port,
            headers=draft.headers,
            content_type=draft.content_type,
            input=Body(size=len(draft.input), inline=draft.input),
            digest=_digest(draft, target),
            retries=draft.retries or queue.retries,
            execution_timeout_s=draft.execution_timeout_s or queue.execution_timeout_s,
            retention_s=queue.retention_s,
            created_at=now,
            not_before=now,
            expires_at=None if ttl_s is None else now + ttl_s,
            webhook=self._webhook(endpoint, draft, pointer),
        )

    def _webhook(self, endpoint: Endpoint, draft: TaskDraft, pointer: str) -> WebhookSpec | None:
        webhooks, form = endpoint.spec.webhooks, self.forms[draft.webhook_form]
        url = draft.webhook_url or webhooks.url
        if url is None:
            return None
        secret = draft.webhook_secret
        # The endpoint's secret signs what Stoker itself writes; it is nothing to be sent along in a header.
        if secret is None and draft.webhook_key is None and not draft.webhook_form:
            secret = webhooks.secret
        if form.keyed and secret is None and draft.webhook_key is None:
            detail = "webhooks are signed: name a secret of the project, or give a key"
            raise Invalid.at(f"{pointer}/webhook/secret", detail)
        return WebhookSpec(
            url=url,
            secret=secret,
            key=None if draft.webhook_key is None else self.new_id(),
            form=draft.webhook_form,
            events=webhooks.events if draft.webhook_events is None else draft.webhook_events,
        )

    def add(
        self, tx: Connection, endpoint: Endpoint, drafts: Sequence[TaskDraft], made: Sequence[Task]
    ) -> list[Submitted]:
        """Record all of them or, raising `Invalid` or `Conflict`, none."""
        for name in {task.webhook.secret for task in made if task.webhook is not None} - {None}:
            assert name is not None
            found = secret_rows.find_secret(tx, name, project=endpoint.project)
            if found is None or found.name != name:
                raise Invalid.at("/webhook/secret", f"there is no secret {name[:64]!r}: stoker secrets set NAME")
        before = rows.known(tx, endpoint.id, [draft.id for draft in drafts if draft.id is not None])
        new: dict[str, tuple[TaskDraft, Task]] = {}
        for draft, task in zip(drafts, made, strict=True):
            known = before.get(task.id) or (new[task.id][1] if task.id in new else None)
            if known is None:
                new[task.id] = (draft, task)
            elif draft.on_duplicate is OnDuplicate.REFUSE:
                raise Conflict(f"there is a task {task.id!r} already")
            elif draft.on_duplicate is OnDuplicate.SAME and known.digest != task.digest:
                raise Conflict(f"there is a task {task.id!r} already, and it asks for something else")
        numbers = rows.add(tx, [task for _, task in new.values()])
        numbered = {
            task.id: replace(task, number=TaskNumber(number))
            for (_, task), number in zip(new.values(), numbers, strict=True)
        }
        rows.add_keys(tx, self._keys([(draft, numbered[task.id]) for draft, task in new.values()]))
        told: set[str] = set()
        result = []
        for task in made:
            created = task.id in numbered and task.id not in told
            told.add(task.id)
            result.append(Submitted(task=numbered.get(task.id) or before[task.id], created=created))
        return result

    def _keys(self, added: Sequence[tuple[TaskDraft, Task]]) -> list[KeptKey]:
        kept = []
        for draft, task in added:
            if draft.webhook_key is not None and task.webhook is not None and task.webhook.key is not None:
                id = task.webhook.key
                kept.append(KeptKey(id=id, task=task.number, sealed=self.seal(id, draft.webhook_key)))
        return kept


def at(drafts: Sequence[TaskDraft], index: int, field: str) -> str:
    """The place of a field in what the caller sent."""
    prefix = f"/tasks/{index}" if len(drafts) > 1 else ""
    return f"{prefix}/{field}" if field else prefix


def _digest(draft: TaskDraft, target: str) -> str:
    """What makes two tasks of one id the same."""
    where = target if draft.port is None else f"{draft.port}{target}"
    parts = [draft.method, where, draft.content_type, *(f"{name.lower()}:{value}" for name, value in draft.headers)]
    return hashlib.sha256("\n".join(parts).encode() + b"\0" + draft.input).hexdigest()
