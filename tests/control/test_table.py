"""What the gateway is told of an endpoint."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from builders import endpoint, worker
from stoker.control.table import _SAID_TO_ANYBODY, Publisher, entry_of, key_entry_of
from stoker.domain.access import ApiKey, KeyId, Scope
from stoker.domain.endpoint import Access, Endpoint, EndpointId, Failures, Override, Phase, ProjectId, ScaleBounds
from stoker.domain.models import Hold
from stoker.domain.routing import Balance, InferenceAddress, Routing
from stoker.domain.scaling import Auto, ScalingPolicy
from stoker.domain.worker import Address, Worker, WorkerState
from stoker.link.messages import AddressEntry, EndpointEntry
from stoker.link.server import LinkServer
from stoker.policy.backoff import FAILURES_BEFORE_REFUSAL

S = WorkerState
AT = Address(host="127.0.0.1", port=20_000)
FAILING = Failures(count=FAILURES_BEFORE_REFUSAL, last_at=100.0, last_reason="exit 1")

_SPEC = endpoint().spec
NO_WORKERS = replace(endpoint(), spec=replace(_SPEC, pools=(replace(_SPEC.pools[0], bounds=ScaleBounds(max=0)),)))


def entry(
    which: Endpoint,
    *workers: Worker,
    closing: bool = False,
    now: float = 100.0,
    attached: tuple[str, ...] = (),
    hold: Hold | None = None,
) -> EndpointEntry:
    return entry_of(which, workers, attached=attached, domains=["x.test"], closing=closing, now=now, hold=hold)


def test_only_workers_that_take_or_finish_requests_are_in_it_oldest_first() -> None:
    workers = [worker(number, state, address=AT) for number, state in enumerate(S, start=1)]
    made = entry(endpoint(), *reversed(workers), worker(99, S.READY))
    assert [(w.order, w.draining) for w in made.workers] == [(3, False), (5, True)]


@pytest.mark.parametrize(
    ("said", "scaling", "expected"),
    [
        (None, ScalingPolicy(), (False, False)),
        (Balance.PACK, ScalingPolicy(), (True, False)),
        (None, ScalingPolicy(triggers=(Auto(cold_cost=0.05),)), (False, True)),
        (Balance.SPREAD, ScalingPolicy(triggers=(Auto(cold_cost=0.05),)), (False, False)),
    ],
)
def test_where_idle_workers_rest_the_oldest_are_filled_unless_another_balance_is_said(
    said: Balance | None, scaling: ScalingPolicy, expected: tuple[bool, bool]
) -> None:
    made = entry(replace(endpoint(), spec=replace(_SPEC, scaling=scaling, routing=Routing(balance=said))))
    assert (made.pack, made.fill) == expected


def test_it_is_addressed_by_slug_by_id_and_by_host() -> None:
    made = entry(endpoint())
    assert [(a.prefix, a.host, a.strip) for a in made.addresses] == [
        ("/e/e", "", True),
        ("/e/e", "", True),
        ("/", "e.x.test", False),
    ]


def test_it_has_more_addresses_where_others_give_it_some() -> None:
    more = InferenceAddress(prefix="/cloud/e", strip=False, worker="w", keys=("query:key",))
    made = entry_of(endpoint(), [], attached=(), domains=[], addresses=[more], closing=False, now=0.0)
    assert made.addresses[-1] == AddressEntry("/cloud/e", strip=False, worker="w", keys=("query:key",))


@pytest.mark.parametrize(
    ("which", "closing", "now", "refusal"),
    [
        pytest.param(endpoint(), False, 100.0, None, id="active"),
        pytest.param(endpoint(), True, 100.0, "stopping", id="all of Stoker is being stopped"),
        pytest.param(endpoint(phase=Phase.STOPPED), False, 100.0, "stopped", id="stopped"),
        pytest.param(NO_WORKERS, False, 100.0, "no_workers", id="it may have no worker"),
        pytest.param(replace(NO_WORKERS, override=Override(workers=1)), False, 100.0, None, id="but has one by hand"),
        pytest.param(endpoint(phase=Phase.DELETING), False, 100.0, "deleting", id="being deleted"),
        pytest.param(endpoint(failures=FAILING), False, 100.0, "start_failed", id="starts keep failing"),
        pytest.param(endpoint(failures=FAILING), False, 104.0, None, id="the next try is under way"),
        pytest.param(
            endpoint(failures=replace(FAILING, count=FAILURES_BEFORE_REFUSAL - 1)), False, 100.0, None, id="a few"
        ),
    ],
)
def test_requests_are_refused_when_nothing_will_serve_them(
    which: Endpoint, closing: bool, now: float, refusal: str | None
) -> None:
    assert entry(which, closing=closing, now=now).refusal == refusal


def test_failing_starts_refuse_nobody_while_a_worker_serves_and_say_when_to_come_again() -> None:
    failing = endpoint(failures=FAILING)
    assert entry(failing, worker(1, S.READY, address=AT)).refusal is None
    assert entry(failing, worker(1, S.STARTING, address=AT)).retry_after_s == 4.0


SECRET = "its last output:\npassword=hunter2 at https://models.test/?token=abc"


@pytest.mark.parametrize(
    ("hold", "reason"),
    [
        (None, "start_failed"),
        (Hold(SECRET, failed=True), "model_failed"),
        (Hold(SECRET, left_s=1e6), "model_downloading"),
        (Hold(SECRET, failed=True, volume=True), "volume_unavailable"),
    ],
)
def test_of_an_open_endpoint_nobody_is_shown_what_its_workers_said(hold: Hold | None, reason: str) -> None:
    which = endpoint(failures=replace(FAILING, last_reason=SECRET))
    told = entry(which, now=100.0, hold=hold)
    assert (told.refusal, SECRET in told.refusal_text) == (reason, True), "who may call it is told"
    open_ = replace(which, spec=replace(which.spec, access=Access.OPEN))
    kept = entry(open_, now=100.0, hold=hold)
    assert (kept.refusal, kept.retry_after_s) == (told.refusal, told.retry_after_s)
    assert "hunter2" not in repr(kept)
    assert "token" not in repr(kept)
    assert kept.refusal_text


def test_every_text_for_anybody_is_of_a_reason_there_is() -> None:
    page = (Path(__file__).parents[2] / "docs" / "refusals.md").read_text()
    assert [reason for reason in _SAID_TO_ANYBODY if f"`{reason}`" not in page] == []


def test_attached_keys_are_named_for_access_attached_alone() -> None:
    which = endpoint()
    attached = replace(which, spec=replace(which.spec, access=Access.ATTACHED))
    assert entry(which, attached=("b", "a")).attached == ()
    assert entry(attached, attached=("b", "a")).attached == ("a", "b")


def test_a_key_may_invoke_when_any_of_its_scopes_reaches_that_far() -> None:
    key = ApiKey(
        id=KeyId("k"),
        number=1,
        project=ProjectId(1),
        name="k",
        digest="d",
        hint="sk-",
        scopes=frozenset({Scope.READ}),
        created_at=0.0,
    )
    assert not key_entry_of(key).invoke
    assert key_entry_of(replace(key, scopes=frozenset({Scope.DEPLOY}))).invoke
    limited = replace(key, endpoints=frozenset({EndpointId("b"), EndpointId("a")}))
    assert (key_entry_of(key).endpoints, key_entry_of(limited).endpoints) == (None, ("a", "b"))


class Nobody:
    """Listens to a link and does nothing."""

    def gateway_connected(self) -> None: ...

    def gateway_lost(self) -> None: ...

    def gateway_leaves(self) -> None: ...

    def reported(self, report: object) -> None: ...

    def woken(self, wake: object) -> None: ...

    def worker_down(self, down: object) -> None: ...

    def freed(self, freed: object) -> None: ...

    def leaver_reported(self, incarnation: str, report: object) -> None: ...

    def gateway_left(self, incarnation: str) -> None: ...

    def acknowledged(self, seq: int) -> None: ...


def test_an_endpoint_is_waited_for_by_the_number_of_its_own_last_change() -> None:
    link = LinkServer(incarnation="c", term=1, listener=Nobody())
    publisher = Publisher(link, domains=[], addresses=lambda _endpoint, _workers: (), expected_start_s=lambda _: None)
    first, second = endpoint(), replace(endpoint(), id=EndpointId("f"), slug="f")
    put = publisher.publish(first, [], attached=(), now=0.0)
    publisher.publish(second, [], attached=(), now=0.0)
    assert publisher.publish(first, [], attached=(), now=0.0) == put, "nothing has changed"
    assert publisher.seq(first.id) == put < link.seq
    gone = publisher.withdraw(first.id)
    assert gone == publisher.seq(first.id) == link.seq
    publisher.forget(first.id)
    publisher.publish(second, [worker(1, S.READY, address=AT)], attached=(), now=0.0)
    assert publisher.seq(first.id) == link.seq, "of what is unknown nothing less is certain"
