"""What gateway and control say to each other: one JSON object a line, tagged with its type.

Unknown fields are ignored, so that either end may be newer. Times are ages in seconds or cumulative sums, never wall
times: the two ends need not agree on a clock.
"""

from __future__ import annotations

import msgspec

from stoker.domain.routing import KEY_PLACES

PROTOCOL_VERSION = 1
LINE_BYTES_MAX = 64 * 1024 * 1024


class Message(msgspec.Struct, tag_field="type", omit_defaults=True, frozen=True):
    """Base of all messages; the tag is the class name."""


class Hello(Message, tag="hello", frozen=True):
    """First line of either end. A control with a lower `term` than one seen before is refused.

    Of gateways: a `successor` takes over from one that is about to leave; one that is `leaving` takes no new requests.
    `attempts` is the name of its internal socket in the folder of sockets; empty without one.
    """

    version: int
    incarnation: str
    term: int
    successor: bool = False
    leaving: bool = False
    attempts: str = ""


class WorkerEntry(msgspec.Struct, omit_defaults=True, frozen=True):
    """A worker that may get requests, or that still finishes some (`draining`). `order` sorts the oldest first. `ports`
    has its own port for each that was declared, where tasks may name one.
    """

    id: str
    host: str
    port: int
    slots: int
    order: int
    draining: bool = False
    ports: tuple[tuple[int, int], ...] = ()


class AddressEntry(msgspec.Struct, omit_defaults=True, frozen=True):
    """An inference address; see `stoker.domain.routing.InferenceAddress`."""

    prefix: str
    host: str = ""
    strip: bool = True
    base: str = ""
    worker: str | None = None
    keys: tuple[str, ...] = KEY_PLACES
    open: bool = False


class EndpointEntry(msgspec.Struct, omit_defaults=True, frozen=True):
    """All that the gateway knows of an endpoint.

    `refusal` (a reason such as `stopped` or `start_failed`, with `refusal_text`) makes every request fail at once.
    `expected_start_s`: how long a worker takes to be ready, when that is known.
    `attached` lists digests of keys for access `attached`; `access` is `project`, `attached` or `open`.
    Timeouts are in seconds; `None` is no limit. `pack` prefers the oldest among equally loaded workers, `fill` the
    oldest with a free slot. `session` is empty, `soft` or `strict`. `backlog`: tasks may wait for slots, so that the
    gateway says when one comes free; `tasks_only`: requests of users are refused.
    """

    id: str
    number: int
    project: int
    slug: str
    name: str
    access: str
    models: tuple[str, ...]
    addresses: tuple[AddressEntry, ...]
    workers: tuple[WorkerEntry, ...]
    waiting_max: int
    wait_s_max: float
    connect_s: float
    first_byte_s: float | None
    idle_s: float | None
    total_s: float | None
    created_s: float = 0.0
    refusal: str | None = None
    refusal_text: str = ""
    retry_after_s: float | None = None
    expected_start_s: float | None = None
    attached: tuple[str, ...] = ()
    pack: bool = False
    fill: bool = False
    session: str = ""
    session_idle_s: float = 3_600.0
    backlog: bool = False
    tasks_only: bool = False


class KeyEntry(msgspec.Struct, omit_defaults=True, frozen=True):
    """A key, and whether it may call endpoints; expired and revoked ones are never sent.

    Limits are `None` where there is none: `rate_per_s` requests begin each second, up to `burst` of them at once
    (`None`: as many as begin in a second); `concurrency` are in flight or waiting at a time. `expires_at`, in seconds
    since the epoch, is the one wall time here: both ends run on one machine, and a key must expire without control.
    """

    digest: str
    id: str
    project: int
    invoke: bool
    endpoints: tuple[str, ...] | None = None
    rate_per_s: float | None = None
    burst: int | None = None
    concurrency: int | None = None
    expires_at: float | None = None

    @property
    def limited(self) -> bool:
        """Has it any limit on requests?"""
        return self.rate_per_s is not None or self.concurrency is not None


class ReservationEntry(msgspec.Struct, omit_defaults=True, frozen=True):
    """A ticket for one worker: a request that shows its `id` in `X-Stoker-Reservation` goes there and nowhere else.

    Until the first request comes with it, or `expires_s` seconds after it was sent, `cost` (in requests) counts as
    load on the worker, so that others are sent elsewhere.
    """

    id: str
    endpoint: str
    worker: str
    expires_s: float
    cost: float = 1.0


class Snapshot(Message, tag="snapshot", frozen=True):
    """The whole table; replaces whatever the gateway had. Below `management_hosts` everything that is no inference
    address is for control, `/v1` and `/healthz` included: they are hosts of clouds whose APIs control speaks.
    """

    seq: int
    endpoints: tuple[EndpointEntry, ...]
    keys: tuple[KeyEntry, ...]
    reservations: tuple[ReservationEntry, ...] = ()
    management_hosts: tuple[str, ...] = ()


class Delta(Message, tag="delta", frozen=True):
    """Changes since the message before: entries replace those with the same id; `*_gone` remove by id or digest."""

    seq: int
    endpoints: tuple[EndpointEntry, ...] = ()
    endpoints_gone: tuple[str, ...] = ()
    keys: tuple[KeyEntry, ...] = ()
    keys_gone: tuple[str, ...] = ()
    reservations: tuple[ReservationEntry, ...] = ()
    reservations_gone: tuple[str, ...] = ()


class Ack(Message, tag="ack", frozen=True):
    """The gateway's table is at `seq`: everything up to it has taken effect."""

    seq: int


class EndpointReport(msgspec.Struct, omit_defaults=True, frozen=True):
    """Traffic of one endpoint. Counters only grow during one incarnation of the gateway.

    `busy_s` is the integral of requests in flight over time, `wait_s` that of requests waiting: their growth between
    two reports, divided by the time between, is an average. `workers` has requests in flight by worker id, for every
    worker in the table or still busy. `kept`: slots by worker that a gateway on its way out still needs.
    """

    id: str
    in_flight: int
    waiting: int
    oldest_wait_s: float
    arrivals: int
    completions: int
    errors: int
    refusals: int
    busy_s: float
    wait_s: float
    workers: dict[str, int]
    kept: dict[str, int] = {}


class UsageEntry(msgspec.Struct, array_like=True, frozen=True):
    """What was used of an endpoint with one key (`None`: without one) since the start of the gateway. `metered` of the
    requests told their tokens.
    """

    endpoint: str
    project: int
    key: str | None
    requests: int
    errors: int
    metered: int
    prompt_tokens: int
    completion_tokens: int


class FactEntry(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One request that has ended. `offset_s`: when it arrived, as the age of the gateway at that moment."""

    endpoint: str
    offset_s: float
    wait_s: float
    service_s: float | None
    first_byte_s: float | None
    prompt_tokens: int | None
    completion_tokens: int | None
    status: int
    key: str | None


# OpenTelemetry's buckets for generative models: a request's duration, and the time to its first token.
SERVICE_BUCKETS_S = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
FIRST_BYTE_BUCKETS_S = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)


class MeasureEntry(msgspec.Struct, array_like=True, frozen=True):
    """Histograms of one endpoint since the gateway's start: how many requests fell into each bucket (the last one has
    no bound), and their sums.
    """

    endpoint: str
    service: tuple[int, ...]
    service_s: float
    first_byte: tuple[int, ...]
    first_byte_s: float
    prompt_tokens: int
    completion_tokens: int


class Report(Message, tag="report", frozen=True):
    """Sent four times a second with the endpoints that traffic or a table change touched since; after a (re)connection
    with all of them.

    `seq` is the table that these numbers were taken under. `uptime_s` is the age of the gateway. `usage` has the sums
    that have grown. `facts` are said once; `facts_dropped` counts those that were not said, since the gateway's start.
    `keys_used` and `tickets_used` are ids of keys and reservations that requests came with, of the last second or so.
    """

    seq: int
    uptime_s: float
    endpoints: tuple[EndpointReport, ...]
    usage: tuple[UsageEntry, ...] = ()
    facts: tuple[FactEntry, ...] = ()
    facts_dropped: int = 0
    measures: tuple[MeasureEntry, ...] = ()
    keys_used: tuple[str, ...] = ()
    tickets_used: tuple[str, ...] = ()


class Wake(Message, tag="wake", frozen=True):
    """A request waits and no slot is in sight. Sent at once, then at most once per endpoint between reports."""

    endpoint: str
    waiting: int


class WorkerDown(Message, tag="worker_down", frozen=True):
    """A worker refused a connection: the gateway sends it nothing more until it is told of it again."""

    endpoint: str
    worker: str
    reason: str


class Leaving(Message, tag="leaving", frozen=True):
    """Another gateway takes over. This one finishes what it has; the reports that follow say what it needs for that."""


class Freed(Message, tag="freed", frozen=True):
    """Of an endpoint with a backlog: `slots` are free now and nobody waits for them."""

    endpoint: str
    slots: int


ToGateway = Hello | Snapshot | Delta
ToControl = Hello | Ack | Report | Wake | WorkerDown | Freed | Leaving


_encoder = msgspec.json.Encoder()
_to_gateway: msgspec.json.Decoder[ToGateway] = msgspec.json.Decoder(ToGateway)
_to_control: msgspec.json.Decoder[ToControl] = msgspec.json.Decoder(ToControl)


def encode(message: Message) -> bytes:
    """One line, newline included."""
    return _encoder.encode(message) + b"\n"


def decode_to_gateway(line: bytes) -> ToGateway:
    """Raises `msgspec.DecodeError` for anything that is not a message to the gateway."""
    return _to_gateway.decode(line)


def decode_to_control(line: bytes) -> ToControl:
    """Raises `msgspec.DecodeError` for anything that is not a message to control."""
    return _to_control.decode(line)
