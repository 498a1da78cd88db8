"""The outbox: signed, at least once with one id, patient with receivers, and none of them in another's way."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import TypeVar

import pytest
from aiohttp import web
from sqlalchemy import Connection
from standardwebhooks.webhooks import Webhook

from stoker.domain.addresses import UrlRules
from stoker.domain.endpoint import EndpointId, ProjectId
from stoker.domain.errors import NotFound
from stoker.domain.task import Delivery, DeliveryState, TaskNumber
from stoker.net import GuardedSession
from stoker.queue.forms import STANDARD, WebhookForm, signed
from stoker.queue.webhooks import FAILURES_MAX, OPEN_S, SENDING_TO_ONE_MAX, Outbox, seconds_of
from stoker.store import deliveries
from stoker.store.sqlite import InlineSqliteStore

SECRET = "whsec_c2VjcmV0c2VjcmV0c2VjcmV0"
T = TypeVar("T")


def _plain(delivery: Delivery, key: str | None, at: datetime) -> tuple[dict[str, str], bytes]:
    headers = {"Content-Type": "application/json"} | ({} if key is None else {"X-API-Key": key})
    return headers, b'{"retry_count": %d}' % (delivery.tries + 1)


# As clouds have it that tell in their own words: a key as it is, and a list of times.
PLAIN = WebhookForm(
    body=lambda ending: b"{}",
    request=_plain,
    wait_s=lambda tries, chance, asked: dict(enumerate((60.0, 300.0, 900.0), 1)).get(tries),
)


class Receiver:
    """Remembers what it was sent; answers what `answer` says."""

    def __init__(self) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.answer: Callable[[], web.Response] = lambda: web.Response(status=204)
        self.held: asyncio.Event | None = None
        self.url = ""

    async def handle(self, request: web.Request) -> web.Response:
        self.got.append((dict(request.headers), await request.read()))
        if self.held is not None:
            await self.held.wait()
        return self.answer()


class LateStore(InlineSqliteStore):
    """What it has read arrives when `late` is set, if there is such an event."""

    late: asyncio.Event | None = None

    async def read(self, query: Callable[[Connection], T]) -> T:
        found = await super().read(query)
        if self.late is not None:
            await self.late.wait()
        return found


class Hall:
    """An outbox on a clock of the test's own."""

    def __init__(self, rules: str) -> None:
        self.now = 1_000.0
        self.store = LateStore()
        self.session = GuardedSession(UrlRules.parse(rules))
        self.secrets = {"signing": SECRET}
        forms = {"": STANDARD, "plain": PLAIN}
        self.outbox = Outbox(self.store, self.session, self.key, forms, clock=lambda: self.now, chance=lambda: 1.0)

    async def key(self, delivery: Delivery) -> str | None:
        if delivery.secret is not None and delivery.secret not in self.secrets:
            raise NotFound(f"no secret {delivery.secret!r}")
        return None if delivery.secret is None else self.secrets[delivery.secret]

    async def add(self, url: str, id: str = "msg_1", *, form: str = "", secret: str | None = "signing") -> None:
        made = Delivery(
            id=id,
            number=0,
            task=TaskNumber(1),
            task_id="t",
            endpoint=EndpointId("e"),
            project=ProjectId(1),
            event="task.succeeded",
            url=url,
            secret=secret,
            form=form,
            payload='{"type":"task.succeeded","data":{"id":"tä"}}'.encode(),
            created_at=self.now,
            next_at=self.now,
        )
        await self.store.write(lambda tx: deliveries.add(tx, [made]))

    async def get(self, id: str = "msg_1") -> Delivery:
        found = await self.store.read(lambda tx: deliveries.find(tx, EndpointId("e"), id))
        assert found is not None
        return found

    async def sent(self) -> None:
        """One step, and the end of all that it began."""
        await self.outbox.step()
        await asyncio.gather(*self.outbox._sending.values())


def run(body: Callable[[Hall, Receiver], Awaitable[None]], *, rules: str = "on") -> None:
    async def main() -> None:
        receiver, hall = Receiver(), Hall(rules)
        app = web.Application()
        app.router.add_post("/{path:.*}", receiver.handle)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            await body(hall, receiver)
        finally:
            await hall.outbox.close()
            await hall.session.close()
            await runner.cleanup()
            await hall.store.close()

    asyncio.run(main())


def test_what_arrives_is_signed_and_told_once() -> None:
    async def body(hall: Hall, receiver: Receiver) -> None:
        await hall.add(f"{receiver.url}/hook")
        await hall.sent()
        await hall.sent()
        [(headers, payload)] = receiver.got
        document = Webhook(SECRET).verify(payload, headers)
        assert document["data"]["id"] == "tä"
        delivery = await hall.get()
        assert (delivery.state, delivery.tries, delivery.status) == (DeliveryState.DELIVERED, 1, 204)

    run(body)


@pytest.mark.parametrize("status", [204, 404])
def test_a_try_that_ends_while_the_next_ones_are_looked_for_is_not_made_again_at_once(status: int) -> None:
    async def body(hall: Hall, receiver: Receiver) -> None:
        receiver.answer = lambda: web.Response(status=status)
        receiver.held = asyncio.Event()
        await hall.add(receiver.url)
        await hall.outbox.step()
        hall.store.late = asyncio.Event()
        looking = asyncio.create_task(hall.outbox.step())
        # It has read the row as it was before the answer.
        await asyncio.sleep(0)
        receiver.held.set()
        await asyncio.gather(*hall.outbox._sending.values())
        hall.store.late.set()
        await looking
        await asyncio.gather(*hall.outbox._sending.values())
        assert (len(receiver.got), (await hall.get()).tries) == (1, 1)
        hall.now += 100
        await hall.sent()
        assert len(receiver.got) == (1 if status == 204 else 2)

    run(body)


def test_a_failed_try_is_made_again_with_the_same_id_until_a_day_has_passed() -> None:
    async def body(hall: Hall, receiver: Receiver) -> None:
        receiver.answer = lambda: web.Response(status=404)
        await hall.add(receiver.url)
        for _ in range(60):
            await hall.sent()
            delivery = await hall.get()
            if delivery.state is not DeliveryState.PENDING:
                break
            assert delivery.next_at > hall.now
            hall.now = delivery.next_at
        assert delivery.state is DeliveryState.FAILED
        assert delivery.error == "it answered with status 404"
        assert 12 <= delivery.tries == len(receiver.got) <= 20
        assert {headers["webhook-id"] for headers, _ in receiver.got} == {"msg_1"}
        assert len({payload for _, payload in receiver.got}) == 1
        assert hall.now - 1_000.0 <= 86_400

    run(body)


def test_a_receiver_says_when_to_come_again_or_that_it_is_gone() -> None:
    async def body(hall: Hall, receiver: Receiver) -> None:
        receiver.answer = lambda: web.Response(status=429, headers={"Retry-After": "500"})
        await hall.add(receiver.url)
        await hall.sent()
        assert (await hall.get()).next_at == 1_500.0
        receiver.answer = lambda: web.Response(status=410)
        hall.now = 1_500.0
        await hall.sent()
        assert (await hall.get()).state is DeliveryState.FAILED

    run(body)


def test_one_that_is_to_begin_anew_while_it_is_sent_is_sent_again_whatever_comes_of_that() -> None:
    async def body(hall: Hall, receiver: Receiver) -> None:
        receiver.answer = lambda: web.Response(status=410)
        receiver.held = asyncio.Event()
        await hall.add(receiver.url)
        await hall.outbox.step()
        anew = replace(await hall.get(), created_at=1_001.0, next_at=1_001.0)
        await hall.store.write(lambda tx: deliveries.renew(tx, anew))
        hall.now = 1_001.0
        receiver.held.set()
        await asyncio.gather(*hall.outbox._sending.values())
        assert ((await hall.get()).state, (await hall.get()).tries) == (DeliveryState.PENDING, 0)
        receiver.answer = web.Response
        await hall.sent()
        assert ((await hall.get()).state, len(receiver.got)) == (DeliveryState.DELIVERED, 2)

    run(body)


def test_redirects_are_not_followed_and_endless_answers_not_read() -> None:
    async def body(hall: Hall, receiver: Receiver) -> None:
        receiver.answer = lambda: web.Response(status=302, headers={"Location": f"{receiver.url}/other"})
        await hall.add(receiver.url)
        await hall.sent()
        assert (len(receiver.got), (await hall.get()).error) == (1, "redirects are not followed")
        receiver.answer = lambda: web.Response(body=b"x" * 1_000_000)
        hall.now += 10
        await hall.sent()
        assert (await hall.get()).state is DeliveryState.DELIVERED

    run(body)


def test_private_addresses_are_refused_for_good() -> None:
    async def body(hall: Hall, receiver: Receiver) -> None:
        await hall.add(receiver.url)
        await hall.sent()
        delivery = await hall.get()
        assert (receiver.got, delivery.state, delivery.tries) == ([], DeliveryState.FAILED, 1)
        assert "127.0.0.1" in delivery.error

    run(body, rules="off")


def test_without_its_secret_nothing_is_sent_until_it_is_there_again() -> None:
    async def body(hall: Hall, receiver: Receiver) -> None:
        hall.secrets.clear()
        await hall.add(receiver.url)
        await hall.sent()
        assert (receiver.got, (await hall.get()).state) == ([], DeliveryState.PENDING)
        hall.secrets["signing"] = "a text"
        hall.now += 10
        await hall.sent()
        [(headers, payload)] = receiver.got
        Webhook(b"a text").verify(payload, headers)

    run(body)


def test_a_slow_receiver_gets_a_few_at_a_time_and_delays_no_other() -> None:
    async def body(hall: Hall, receiver: Receiver) -> None:
        receiver.held = asyncio.Event()
        for n in range(200):
            await hall.add(f"{receiver.url}/slow", f"msg_{n:03}")
        other = Receiver()
        app = web.Application()
        app.router.add_post("/", other.handle)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        await hall.add(f"http://127.0.0.1:{runner.addresses[0][1]}/", "msg_other")
        await hall.outbox.step()
        await hall.outbox.step()
        async with asyncio.timeout(30):
            while (await hall.get("msg_other")).state is not DeliveryState.DELIVERED:  # noqa: ASYNC110 - it has no event
                await asyncio.sleep(0.005)
            while len(receiver.got) < SENDING_TO_ONE_MAX:  # noqa: ASYNC110 - it has no event
                await asyncio.sleep(0.005)
        assert len(receiver.got) == SENDING_TO_ONE_MAX
        receiver.held.set()
        await runner.cleanup()

    run(body)


def test_a_dead_receiver_is_left_alone_for_a_while_then_tried_by_one() -> None:
    async def body(hall: Hall, receiver: Receiver) -> None:
        receiver.answer = lambda: web.Response(status=503)
        for n in range(30):
            await hall.add(receiver.url, f"msg_{n:03}")
        await hall.sent()
        first = len(receiver.got)
        assert FAILURES_MAX <= first <= SENDING_TO_ONE_MAX
        await hall.sent()
        assert len(receiver.got) == first
        hall.now += 100
        await hall.sent()
        assert len(receiver.got) == first + 1
        receiver.answer = lambda: web.Response()
        hall.now += 1_000
        await hall.sent()
        await hall.sent()
        assert len(receiver.got) > first + 3

    run(body)


def test_failures_of_tries_made_together_are_one_reason_to_leave_a_receiver_alone() -> None:
    async def body(hall: Hall, receiver: Receiver) -> None:
        receiver.answer = lambda: web.Response(status=503)
        for n in range(SENDING_TO_ONE_MAX):
            await hall.add(receiver.url, f"msg_{n:03}")
        await hall.sent()
        assert len(receiver.got) == SENDING_TO_ONE_MAX > FAILURES_MAX
        await hall.add(receiver.url, "msg_later")
        hall.now += OPEN_S - 1
        await hall.sent()
        assert len(receiver.got) == SENDING_TO_ONE_MAX
        receiver.answer = web.Response
        hall.now += 2
        await hall.sent()
        assert len(receiver.got) == SENDING_TO_ONE_MAX + 1
        await hall.sent()
        assert (await hall.get("msg_later")).state is DeliveryState.DELIVERED

    run(body)


def test_signatures_are_those_of_the_standard() -> None:
    delivery = Delivery(
        id="msg_p5jXN8AQM9LWM0D4loKWxJek",
        number=0,
        task=TaskNumber(1),
        task_id="t",
        endpoint=EndpointId("e"),
        project=ProjectId(1),
        event="task.succeeded",
        url="https://a.example",
        secret="s",
        payload=b'{"test": 2432232314}',
        created_at=0.0,
        next_at=0.0,
    )
    at = datetime.fromtimestamp(1614265330, UTC)
    headers, _ = signed(delivery, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", at)
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert headers["webhook-timestamp"] == "1614265330"
    assert replace(delivery, tries=3).id == headers["webhook-id"]


def test_a_form_of_another_cloud_says_what_each_try_carries_and_when_the_next_one_is() -> None:
    async def body(hall: Hall, receiver: Receiver) -> None:
        receiver.answer = lambda: web.Response(status=404)
        await hall.add(receiver.url, form="plain")
        times = []
        while (delivery := await hall.get()).state is DeliveryState.PENDING:
            hall.now = delivery.next_at
            times.append(hall.now - 1_000.0)
            await hall.sent()
        assert times == [0.0, 60.0, 360.0, 1_260.0]
        assert [payload for _, payload in receiver.got] == [b'{"retry_count": %d}' % n for n in (1, 2, 3, 4)]
        assert {headers["X-API-Key"] for headers, _ in receiver.got} == {SECRET}
        assert "webhook-id" not in receiver.got[0][0]
        await hall.add(receiver.url, "msg_2", form="plain", secret=None)
        await hall.sent()
        assert "X-API-Key" not in receiver.got[-1][0]

    run(body)


def test_what_nobody_knows_how_to_write_is_given_up() -> None:
    async def body(hall: Hall, receiver: Receiver) -> None:
        await hall.add(receiver.url, form="gone")
        await hall.sent()
        delivery = await hall.get()
        assert (delivery.state, receiver.got) == (DeliveryState.FAILED, [])
        assert "form" in delivery.error

    run(body)


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("120", 120.0),
        ("Sun, 06 Nov 1994 08:50:37 GMT", 60.0),
        ("Sun, 06 Nov 1994 08:00:00 GMT", 0.0),
        ("soon", None),
        ("", None),
        ("9" * 30, None),
        ("Sun, 99 Nov 1994", None),
    ],
)
def test_receivers_say_when_to_come_again_in_seconds_or_as_a_date(said: str, seconds: float | None) -> None:
    assert seconds_of(said, datetime(1994, 11, 6, 8, 49, 37, tzinfo=UTC)) == seconds
