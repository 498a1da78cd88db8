"""`stoker simulate`: what a trace of requests would cost, and how long requests would wait, under several policies.

Needs no running Stoker: everything happens in this process, on virtual time.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stoker.cli import output
from stoker.cli.errors import CliError, Exit
from stoker.cli.session import Session, command

if TYPE_CHECKING:
    from stoker.simulate.compare import Result
    from stoker.simulate.policies import Knobs, Make
    from stoker.simulate.trace import Profile, Trace

# The policy of the endpoint whose requests they were.
OWN = "own"
_COLUMNS = ("POLICY", "GPU-S", "OVER BOUND", "WITHIN TARGET", "WITHIN 30S", "P50", "P99", "STARTS", "FLAPS", "PEAK")


@command
def simulate(
    session: Session,
    trace: Annotated[
        Path | None,
        typer.Argument(help="CSV, compressed or not: arrival_s,input_tokens,output_tokens[,service_s][,endpoint]."),
    ] = None,
    from_: Annotated[
        str | None, typer.Option("--from", metavar="ENDPOINT", help="Instead: the requests that came to this endpoint.")
    ] = None,
    since: Annotated[str, typer.Option(help="With --from: from then on, a time, or how long ago.")] = "24h",
    profile: Annotated[
        str | None,
        typer.Option(
            help="The hardware: A (default), B or C, with changes if any, as in `A,slots=8,start_s=30`. With --from "
            "changes of the endpoint's own slots, bounds and starts."
        ),
    ] = None,
    policy: Annotated[str | None, typer.Option(help="Names, with commas between; default: all.")] = None,
    sweep: Annotated[bool, typer.Option("--sweep", help="Also with other settings than their defaults.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of the times that starts take.")] = 0,
    tail_s: Annotated[float, typer.Option(min=0, help="Go on for so long after the last request.")] = 0.0,
    html: Annotated[Path | None, typer.Option(help="Also write a report to this file.")] = None,
) -> None:
    """Compare scaling policies on a trace: cost, waiting, starts.

    Costs are GPU-seconds from the start of a worker to its end. The bound is the least with which nobody waits. With
    --from there is also the endpoint's own policy, called own: what would that time have cost under another one?
    """
    from stoker.domain.errors import Invalid
    from stoker.simulate.policies import POLICIES
    from stoker.simulate.report import page

    if (trace is None) == (from_ is None):
        raise CliError("say one of TRACE and --from ENDPOINT", Exit.USAGE)
    known = [*([OWN] if from_ is not None else []), *POLICIES]
    names = known if policy is None else [name.strip() for name in policy.split(",")]
    for name in names:
        if name not in known:
            raise CliError(f"there is no policy {name!r}, only {', '.join(known)}", Exit.USAGE)
    try:
        if from_ is not None:
            requests, hardware, own = _recorded(session, from_, since, profile or "")
            if policy is None:
                names = _possible(names, own, hardware)
        else:
            assert trace is not None
            requests, hardware, own = *_read(trace, profile or "A"), None
        runs = _runs(names, sweep=sweep)
        results = _all(requests, hardware, runs, own=own, seed=seed, tail_s=tail_s, quiet=session.as_json)
    except Invalid as exc:
        raise CliError(str(exc), Exit.USAGE) from exc
    if html is not None:
        _write(html, page(results, hardware))
    if session.as_json:
        output.document([result.document() for result in results])
    else:
        _show(results, requests, html)


def _read(trace: Path, profile: str) -> tuple[Trace, Profile]:
    from stoker.simulate.trace import profile_of, read_trace

    try:
        return read_trace(trace), profile_of(profile)
    except OSError as exc:
        raise CliError(f"{trace} cannot be read: {exc.strerror or exc}", Exit.USAGE) from exc


def _recorded(session: Session, reference: str, since: str, changes: str) -> tuple[Trace, Profile, Make]:
    """The requests that came to an endpoint, its hardware as far as it is known, and its own policy."""
    from stoker.api.wire.spec import SpecIn
    from stoker.api.wire.times import moment
    from stoker.simulate.rules.own import Own
    from stoker.simulate.trace import Profile, parse_trace, profile_of

    client = session.client
    item = client.endpoint(reference)
    spec = SpecIn.model_validate(item["spec"]).to_spec()
    learned = client.get(f"/endpoints/{item['id']}/learned")
    known: dict[str, float] = {}
    if learned["expected_start_s"] is not None:
        known["start_s"] = learned["expected_start_s"]
    resumes = [each["resume_s"]["median"] for each in learned["items"] if each.get("resume_s")]
    if resumes:
        known["resume_s"] = max(resumes)
    auto = spec.scaling.auto
    if auto is not None:
        known["wait_target_s"] = auto.wait_target_s
    cold = auto is not None and auto.cold_cost > 0
    if auto is not None and cold:
        known["cold_rate"] = auto.cold_cost
    base = Profile(slots=item["launch"]["slots"], workers_max=max(1, spec.bounds.max), cold=cold, **known)
    hardware = profile_of(changes, base) if changes else base
    # Said as a moment, so that schedules are simulated at the time of day at which requests came.
    begin = moment("/since", since, now=time.time())
    query = {"since": datetime.fromtimestamp(begin, UTC).isoformat()}
    requests = parse_trace(item["name"], client.text(f"/endpoints/{item['id']}/trace", query=query))
    return requests, hardware, lambda a, s, profile, knobs: Own(profile, spec.scaling, spec.bounds, begin=begin)


def _possible(names: list[str], own: Make, hardware: Profile) -> list[str]:
    """Without the endpoint's own policy where a trace does not have what it looks at."""
    from stoker.domain.errors import Invalid

    try:
        own((), (), hardware, {})
    except Invalid as exc:
        output.note(f"without the endpoint's own policy: {exc}")
        return [name for name in names if name != OWN]
    return names


def _runs(names: list[str], *, sweep: bool) -> list[tuple[str, Knobs]]:
    from stoker.simulate.policies import Knobs
    from stoker.simulate.policies import sweep as settings

    return [(name, knobs) for name in names for knobs in (settings(name) if sweep and name != OWN else (Knobs(),))]


def _all(
    trace: Trace,
    profile: Profile,
    runs: list[tuple[str, Knobs]],
    *,
    own: Make | None,
    seed: int,
    tail_s: float,
    quiet: bool,
) -> list[Result]:
    from stoker.simulate.compare import Comparison

    comparison = Comparison(trace, profile, seed=seed, tail_s=tail_s)
    with _bar(trace.requests * len(runs), quiet=quiet) as (advance, say):
        results = []
        for name, knobs in runs:
            say(name)
            results.append(comparison.result(name, knobs, make=own if name == OWN else None, progress=advance))
    return results


@contextmanager
def _bar(total: int, *, quiet: bool) -> Iterator[tuple[Callable[[int], None], Callable[[str], None]]]:
    """How far it is, on stderr, if a person looks."""
    if quiet or not output.is_terminal(sys.stderr):
        yield lambda count: None, lambda text: None
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description:13}"), BarColumn(), TextColumn("{task.percentage:3.0f} %"))
    with Progress(*columns, TimeRemainingColumn(), console=output.console(sys.stderr), transient=True) as progress:
        task = progress.add_task("", total=total)
        yield lambda count: progress.advance(task, count), lambda text: progress.update(task, description=text)


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as exc:
        raise CliError(f"{path} cannot be written: {exc.strerror or exc}") from exc


def _show(results: list[Result], trace: Trace, html: Path | None) -> None:
    first = results[0]
    output.line(
        f"{trace.name}: {output.plural(first.requests, 'request')}, "
        f"{output.plural(len(trace.endpoints), 'endpoint')}; zero-wait bound {first.zero_wait_bound_gpu_s:,.0f} GPU-s, "
        f"work bound {first.work_bound_gpu_s:,.0f} GPU-s"
    )
    output.table(_COLUMNS, [_row(result) for result in sorted(results, key=lambda r: r.gpu_s)])
    if html is not None:
        output.note(f"wrote {html}")


def _row(result: Result) -> tuple[object, ...]:
    return (
        result.policy,
        f"{result.gpu_s:,.0f}",
        f"x{result.ratio:.2f}",
        f"{100 * result.in_time:.1f} %",
        f"{100 * result.attainment_30s:.1f} %",
        f"{result.wait_p50_s:.1f}s",
        f"{result.wait_p99_s:.1f}s",
        result.starts,
        result.flaps,
        result.workers_peak,
    )
