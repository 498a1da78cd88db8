"""Requests of a trace: read from CSV, and what they are to a profile of hardware. Pure but for reading the file."""

from __future__ import annotations

import csv
import gzip
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from stoker.domain.errors import Invalid

# A day of a thousand requests a second is more than anybody waits for.
REQUESTS_MAX = 20_000_000


@dataclass(frozen=True, slots=True)
class Requests:
    """Of one endpoint, in the order of arrival: when each came and its tokens."""

    name: str
    arrivals: Sequence[float]
    input_tokens: Sequence[int]
    output_tokens: Sequence[int]


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
        return [max(0.001, read / self.prefill + written / self.decode) for read, written in tokens]


PROFILES: Mapping[str, Profile] = {
    "A": Profile(),
    "B": Profile(prefill=4000.0, decode=30.0, start_s=120.0),
    "C": Profile(prefill=2000.0, decode=20.0, start_s=90.0),
}


def profile_of(text: str) -> Profile:
    """`A`, `B`, `C`, or changes of one: `B,slots=8,start_s=30`; without a letter of A. Raises `Invalid`."""
    profile = PROFILES["A"]
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
    """The trace in a file of CSV, compressed or not, with columns `arrival_s,input_tokens,output_tokens[,endpoint]`.
    Raises `Invalid`, `OSError`.
    """
    data = path.read_bytes()
    try:
        text = (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode("utf-8-sig")
    except (OSError, EOFError, UnicodeDecodeError) as exc:
        raise Invalid.at("/trace", f"{path} cannot be read as text: {exc}") from exc
    return parse_trace(path.name.split(".")[0], io.StringIO(text))


def parse_trace(name: str, lines: Iterable[str]) -> Trace:
    """The same from lines. Arrivals need not be in order; equal ones keep theirs."""
    reader = csv.DictReader(lines)
    missing = {"arrival_s", "input_tokens", "output_tokens"} - set(reader.fieldnames or ())
    if missing:
        raise Invalid.at("/trace", f"{name} has no column {', '.join(sorted(missing))}")
    rows: dict[str, list[tuple[float, int, int]]] = {}
    for number, row in enumerate(reader):
        if number >= REQUESTS_MAX:
            raise Invalid.at("/trace", f"{name} has more than {REQUESTS_MAX} requests")
        try:
            parsed = float(row["arrival_s"]), int(row["input_tokens"]), int(row["output_tokens"])
        except (TypeError, ValueError):
            raise Invalid.at("/trace", f"{name}, line {number + 2}: three numbers are needed") from None
        if not math.isfinite(parsed[0]) or min(parsed) < 0:
            raise Invalid.at("/trace", f"{name}, line {number + 2}: numbers must be finite and not negative")
        rows.setdefault(row.get("endpoint") or "", []).append(parsed)
    if not rows:
        raise Invalid.at("/trace", f"{name} has no requests")
    return Trace(name, tuple(requests_of(key, rows[key]) for key in sorted(rows)))


def requests_of(name: str, rows: Iterable[tuple[float, int, int]]) -> Requests:
    """Requests (arrival, input tokens, output tokens) in the order of arrival."""
    ordered = sorted(rows, key=lambda row: row[0])
    return Requests(name, *(tuple(column) for column in zip(*ordered, strict=True)))
