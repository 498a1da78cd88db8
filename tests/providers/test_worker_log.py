"""Reading a worker's output while it is written, rotated and put away."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from providers.workers import open_files, run
from stoker.providers import worker_log
from stoker.providers.base import LogLine
from stoker.providers.shim import LOG_HALF_MIN, Log

# Twenty of these fill a file of the smallest size.
LINE = "x" * (LOG_HALF_MIN // 20 - 100)


def never() -> bool:
    return False


def at_once() -> bool:
    return True


async def texts(
    *places: Path, tail: int = 1000, follow: bool = False, ended: Callable[[], bool] = at_once
) -> list[str]:
    return [line.text async for line in worker_log.read(places, tail=tail, follow=follow, ended=ended)]


def say(log: Log, *numbers: int) -> None:
    for number in numbers:
        log.take("stdout", f"{number} {LINE}\n".encode())


def numbers(found: list[str]) -> list[int]:
    return [int(text.split()[0]) for text in found]


@pytest.mark.parametrize(
    ("line", "parsed"),
    [
        pytest.param(b"12.500 stdout hello world", LogLine(12.5, "stdout", "hello world"), id="plain"),
        pytest.param(b"12.500 stderr ", LogLine(12.5, "stderr", ""), id="empty"),
        pytest.param(b"1 stdout \xff\xfe\0", LogLine(1.0, "stdout", "\ufffd\ufffd\0"), id="junk"),
        pytest.param(b"", None, id="nothing"),
        pytest.param(b"12.500", None, id="cut in the stamp"),
        pytest.param(b"x stdout y", None, id="no time"),
        pytest.param(b"12.5 stdwhat y", None, id="no stream"),
    ],
)
def test_a_stamped_line_is_parsed_and_anything_else_is_none(line: bytes, parsed: LogLine | None) -> None:
    assert worker_log.parse(line) == parsed


@pytest.mark.parametrize("tail", [0, 1, 7, 20, 21, 39, 1000])
def test_the_tail_reaches_over_both_files(tmp_path: Path, tail: int) -> None:
    log = Log(str(tmp_path), 0)
    say(log, *range(30))
    assert (tmp_path / "log.1").exists()
    assert numbers(run(texts(tmp_path, tail=tail))) == list(range(max(0, 30 - tail), 30))


def test_a_tail_of_less_than_nothing_is_nothing(tmp_path: Path) -> None:
    say(Log(str(tmp_path), 0), 1)
    assert run(texts(tmp_path, tail=-1)) == []


@pytest.mark.parametrize("count", [1, 100, 50_000])
def test_a_tail_of_short_lines_is_exact(tmp_path: Path, count: int) -> None:
    log = Log(str(tmp_path), 10_000_000)
    log.take("stdout", b"".join(b"%d\n" % number for number in range(100_000)))
    assert numbers(run(texts(tmp_path, tail=count))) == list(range(100_000 - count, 100_000))


def test_a_line_that_is_only_half_there_is_read_when_it_is_whole(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"1.000 stdout one\n2.000 std")
    looks = iter([False, True])

    def ended() -> bool:
        # The last time it is asked once more, after something was found.
        if over := next(looks, None):
            with (tmp_path / "log").open("ab") as file:
                file.write(b"out two\n")
        return over is not False

    assert run(texts(tmp_path)) == ["one"]
    assert run(texts(tmp_path, follow=True, ended=ended)) == ["one", "two"]


def test_without_output_there_are_no_lines(tmp_path: Path) -> None:
    assert run(texts(tmp_path / "a", tmp_path / "b")) == []
    assert run(texts(tmp_path / "a", tmp_path / "b", follow=True)) == []


def test_output_is_found_where_it_was_put_away(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    say(Log(str(tmp_path / "b"), 0), 1, 2)
    assert numbers(run(texts(tmp_path / "a", tmp_path / "b"))) == [1, 2]
    assert numbers(run(texts(tmp_path / "a", tmp_path / "b", follow=True))) == [1, 2]


def writing(log: Log, batches: Iterator[range]) -> Callable[[], bool]:
    """Asked whether the worker has ended, it says more instead, until there is nothing more to say."""

    def ended() -> bool:
        batch = next(batches, None)
        if batch is not None:
            say(log, *batch)
        return batch is None

    return ended


@pytest.mark.parametrize("step", [3, 19, 20])
def test_following_misses_nothing_and_repeats_nothing_over_rotations(tmp_path: Path, step: int) -> None:
    log = Log(str(tmp_path), 0)
    batches = (range(start, start + step) for start in range(0, 10 * step, step))
    found = run(texts(tmp_path, tail=0, follow=True, ended=writing(log, batches)))
    assert numbers(found) == list(range(10 * step))


def test_following_begins_where_the_tail_ended(tmp_path: Path) -> None:
    log = Log(str(tmp_path), 0)
    say(log, *range(30))
    found = run(texts(tmp_path, tail=5, follow=True, ended=writing(log, iter([range(30, 45), range(45, 60)]))))
    assert numbers(found) == list(range(25, 60))


def test_following_goes_on_where_the_files_were_put_away(tmp_path: Path) -> None:
    folder, gone = tmp_path / "a", tmp_path / "gone"
    folder.mkdir()
    log = Log(str(folder), 0)
    say(log, *range(30))

    def ended() -> bool:
        if folder.exists():
            say(log, *range(30, 35))
            folder.rename(gone)
        return True

    assert numbers(run(texts(folder, gone, tail=0, follow=True, ended=ended))) == list(range(30, 35))


def test_following_goes_on_with_what_is_left_when_more_was_written_than_is_kept(tmp_path: Path) -> None:
    log = Log(str(tmp_path), 0)
    say(log, 0)
    found = numbers(run(texts(tmp_path, follow=True, ended=writing(log, iter([range(1, 100), range(100, 105)])))))
    assert found == [0, *range(found[1], 105)]
    assert found[1] <= 80


def test_much_that_comes_at_once_is_taken_in_pieces(tmp_path: Path) -> None:
    log = Log(str(tmp_path), 100_000_000)
    pending = [True]

    def ended() -> bool:
        if pending:
            pending.clear()
            log.take("stdout", b"".join(b"%d\n" % number for number in range(100_000)))
        return True

    assert numbers(run(texts(tmp_path, tail=0, follow=True, ended=ended))) == list(range(100_000))
    assert (tmp_path / "log").stat().st_size > 2 * worker_log.READ_BYTES_MAX


def test_a_reader_who_goes_away_leaves_no_file_open(tmp_path: Path) -> None:
    say(Log(str(tmp_path), 0), *range(30))
    before = open_files()

    async def main() -> None:
        reading = worker_log.read((tmp_path,), tail=1, follow=True, ended=never)
        assert (await anext(reading)).text.startswith("29 ")
        task = asyncio.ensure_future(anext(reading))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])

    run(main())
    assert open_files() == before
