"""Requests of a trace: read from CSV, and what they are to a profile of hardware. Pure but for reading the file."""

from __future__ import annotations

import csv
import gzip
import math
import zlib
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from stoker.domain.errors import Invalid

# A day of a thousand requests a second is more than anybody waits for.
REQUESTS_MAX = 20_000_000
# Ten years, and more than any context: what is beyond is a mistake, and would be simulated second by second.
ARRIVAL_S_MAX = 10 * 366 * 86_400.0
TOKENS_MAX = 100_000_000
SERVICE_S_MAX = 30 * 86_400.0


@dataclass(frozen=True, slots=True)
class Requests:
    """Of one endpoint, in the order of arrival: when each came and its tokens. `services` is what each really took in
    seconds, where that was measured; it counts instead of the tokens.
    """

    name: str
    arrivals: Sequence[float]
    input_tokens: Sequence[int]
    output_tokens: Sequence[int]
    services: Sequence[float | None] = ()


@dataclass(frozen=True, slots=True)
class Trace:
    """Endpoints, each scaled on its own, sorted by name."""

    name: str
    endpoints: Sequence[Requests]

    @property
    def requests(self) -> int:
        """How many there are in all."""
        return sum(len(endpoint.arrivals) for endpoint in self.endpoints)


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What a worker can do. Rates are tokens per second, of one stream; `start_s` is the median of the lognormal time
    of a start, `sigma` its spread, and as many GPU-seconds a start is taken to cost in the bounds. `wait_target_s`: who
    waits longer is late. `workers_max` is for each endpoint. With `cold` workers a stopped one that has been ready
    once costs `cold_rate` GPU-seconds a second and is back after `resume_s`.
    """

    prefill: float = 8000.0
    decode: float = 50.0
    slots: int = 4
    start_s: float = 45.0
    sigma: float = 0.35
    wait_target_s: float = 5.0
    workers_max: int = 64
    cold: bool = False
    cold_rate: float = 0.05
    resume_s: float = 1.0

    def __post_init__(self) -> None:
        for name in ("prefill", "decode", "slots", "start_s", "workers_max"):
            if not (getattr(self, name) > 0 and math.isfinite(getattr(self, name))):
                raise Invalid.at(f"/profile/{name}", f"{name} must be above zero")
        for name in ("sigma", "wait_target_s", "cold_rate", "resume_s"):
            if not (getattr(self, name) >= 0 and math.isfinite(getattr(self, name))):
                raise Invalid.at(f"/profile/{name}", f"{name} must not be negative")

    @property
    def start_cost(self) -> float:
        """GPU-seconds that a start takes on the average: the mean of the lognormal."""
        return self.start_s * math.exp(self.sigma**2 / 2)

    def services(self, requests: Requests) -> list[float]:
        """Seconds that each request takes on a worker, whatever else it does: a millisecond at least."""
        tokens = zip(requests.input_tokens, requests.output_tokens, strict=True)
        told = [max(0.001, read / self.prefill + written / self.decode) for read, written in tokens]
        measured = [service for service in requests.services if service is not None]
        if not measured:
            return told
        # Who was turned away would have taken what the others took.
        mean = sum(measured) / len(measured)
        return [max(0.001, mean if service is None else service) for service in requests.services]


PROFILES: Mapping[str, Profile] = {
    "A": Profile(),
    "B": Profile(prefill=4000.0, decode=30.0, start_s=120.0),
    "C": Profile(prefill=2000.0, decode=20.0, start_s=90.0),
}


def profile_of(text: str, base: Profile | None = None) -> Profile:
    """`A`, `B`, `C`, or changes of one: `B,slots=8,start_s=30`; without a letter of `base` (default: A). Raises
    `Invalid`.
    """
    profile = base or PROFILES["A"]
    for index, part in enumerate(text.split(",")):
        name, equals, value = part.strip().partition("=")
        if index == 0 and not equals and name.upper() in PROFILES:
            profile = PROFILES[name.upper()]
            continue
        kind = type(getattr(profile, name)) if equals and name in Profile.__dataclass_fields__ else None
        if kind is None:
            known = ", ".join(Profile.__dataclass_fields__)
            raise Invalid.at("/profile", f"{part!r} is neither A, B or C nor one of {known} with a value")
        try:
            parsed = value.lower() in ("1", "true", "yes") if kind is bool else kind(value)
        except ValueError:
            raise Invalid.at(f"/profile/{name}", f"{value!r} is not a number") from None
        profile = replace(profile, **{name: parsed})
    return profile


def read_trace(path: Path) -> Trace:
    """The trace in a file of CSV, compressed or not, with columns
    `arrival_s,input_tokens,output_tokens[,service_s][,endpoint]`. Raises `Invalid`, `OSError`.
    """
    with path.open("rb") as file:
        opened = gzip.open if file.read(2) == b"\x1f\x8b" else open
    with opened(path, "rt", encoding="utf-8-sig", newline="") as lines:
        try:
            return parse_trace(path.name.split(".")[0], lines)
        except (gzip.BadGzipFile, zlib.error, EOFError, UnicodeDecodeError) as exc:
            raise Invalid.at("/trace", f"{path} cannot be read as text: {exc}") from exc


def parse_trace(name: str, lines: Iterable[str]) -> Trace:
    """The same from lines. Arrivals need not be in order; equal ones keep theirs."""
    reader = csv.reader(lines)
    columns: dict[str, _Columns] = {}
    try:
        places = _places(name, next(reader, []))
        for number, row in enumerate(reader):
            if number >= REQUESTS_MAX:
                raise Invalid.at("/trace", f"{name} has more than {REQUESTS_MAX} requests")
            if not row:
                continue
            if len(row) != len(places.names):
                raise ValueError(f"{len(row)} values for {len(places.names)} columns")
            key = "" if places.endpoint is None else row[places.endpoint]
            of = columns.get(key)
            if of is None:
                of = columns[key] = _Columns(measured=places.service is not None)
            of.add(row, places)
    except (ValueError, csv.Error) as exc:
        if isinstance(exc, UnicodeDecodeError):
            raise
        raise Invalid.at("/trace", f"{name}, line {reader.line_num}: {exc}") from None
    if not columns:
        raise Invalid.at("/trace", f"{name} has no requests")
    return Trace(name, tuple(columns[key].requests(key) for key in sorted(columns)))


@dataclass(frozen=True, slots=True)
class _Places:
    """In which column each thing is."""

    names: Sequence[str]
    arrival: int
    input: int
    output: int
    service: int | None
    endpoint: int | None


def _places(name: str, header: Sequence[str]) -> _Places:
    names = [column.strip() for column in header]
    missing = [column for column in ("arrival_s", "input_tokens", "output_tokens") if column not in names]
    if missing:
        raise Invalid.at("/trace", f"{name} has no column {', '.join(missing)}")
    known = {column: names.index(column) for column in names}
    twice = [column for column in known if names.count(column) > 1]
    if twice:
        raise Invalid.at("/trace", f"{name} has the column {twice[0]} twice")
    places = known["arrival_s"], known["input_tokens"], known["output_tokens"]
    return _Places(names, *places, known.get("service_s"), known.get("endpoint"))


class _Columns:
    """The requests of one endpoint while they are read: as small as there may be many of them."""

    def __init__(self, *, measured: bool) -> None:
        self._arrivals, self._inputs, self._outputs = array("d"), array("q"), array("q")
        self._services: list[float | None] | None = [] if measured else None
        self._sorted = True

    def add(self, row: Sequence[str], places: _Places) -> None:
        """Raises `ValueError`."""
        try:
            arrival = float(row[places.arrival])
            read, written = int(row[places.input]), int(row[places.output])
        except ValueError:
            raise ValueError(_wrong(row, places)) from None
        if not 0 <= arrival <= ARRIVAL_S_MAX:
            raise ValueError(f"arrival_s must be finite, not negative and at most {ARRIVAL_S_MAX:g}, not {arrival:g}")
        if not (0 <= read <= TOKENS_MAX and 0 <= written <= TOKENS_MAX):
            raise ValueError(f"tokens must not be negative, and at most {TOKENS_MAX}")
        if self._services is not None and places.service is not None:
            self._services.append(_service_s(row[places.service]))
        self._sorted = self._sorted and (not self._arrivals or arrival >= self._arrivals[-1])
        self._arrivals.append(arrival)
        self._inputs.append(read)
        self._outputs.append(written)

    def requests(self, name: str) -> Requests:
        """All of them, in the order of arrival."""
        services = () if self._services is None else self._services
        if self._sorted:
            return Requests(name, tuple(self._arrivals), self._inputs, self._outputs, services)
        order = sorted(range(len(self._arrivals)), key=self._arrivals.__getitem__)
        return Requests(
            name,
            tuple(self._arrivals[index] for index in order),
            array("q", (self._inputs[index] for index in order)),
            array("q", (self._outputs[index] for index in order)),
            [services[index] for index in order] if services else (),
        )


def _service_s(text: str) -> float | None:
    """`None` for nothing. Raises `ValueError`."""
    if not text:
        return None
    try:
        found = float(text)
    except ValueError:
        raise ValueError(f"service_s is {text[:32]!r}, which is no number") from None
    if not 0 <= found <= SERVICE_S_MAX:
        raise ValueError(f"service_s must be finite, not negative and at most {SERVICE_S_MAX:g}")
    return found


def _wrong(row: Sequence[str], places: _Places) -> str:
    try:
        float(row[places.arrival])
    except ValueError:
        return f"arrival_s is {row[places.arrival][:32]!r}, which is no number"
    for place in (places.input, places.output):
        text = row[place]
        if not text.strip().isdecimal():
            return f"{places.names[place]} is {text[:32]!r}, which is no whole number that is not negative"
    return "three numbers are needed"


def requests_of(name: str, rows: Iterable[tuple[float, int, int] | tuple[float, int, int, float | None]]) -> Requests:
    """Requests (arrival, input tokens, output tokens, seconds if measured) in the order of arrival."""
    ordered = sorted(rows, key=lambda row: row[0])
    return Requests(name, *(tuple(column) for column in zip(*ordered, strict=True)))
