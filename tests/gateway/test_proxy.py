"""Routing and access: which endpoint a request is for, and whether it may call it."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import pytest

from gateway.loopback import KEY, OTHER_KEY, PATIENCE_S, endpoint, key, run, site, until, worker
from gateway.wire import Asked, answer, read_body
from stoker.link.messages import AddressEntry, Leaving, Report, Snapshot


def test_a_request_reaches_the_worker_without_its_prefix_and_the_answer_comes_back(tmp_path: Path) -> None:
    async def main() -> None:
        async with worker() as w, site(tmp_path, endpoint(w.entry())) as s:
            reply = await s.ask("POST", "/e/chat/a%2Fb/c?x=1&y", "X-Mine: yes", body=b"hello")
            assert (reply.status, reply.body) == (200, b"fine")
            [asked] = w.asked
            assert (asked.method, asked.target, asked.body) == ("POST", "/a%2Fb/c?x=1&y", b"hello")
            assert asked.header("X-Mine") == "yes"
            assert asked.header("Host") == "stoker.test"
            assert asked.header("X-Forwarded-For") == "127.0.0.1"
            assert asked.header("X-Forwarded-Proto") == "http"
            assert asked.header("X-Forwarded-Host") == "stoker.test"
            assert asked.header("Content-Length") == "5"

    run(main)


@pytest.mark.parametrize(
    ("target", "seen"), [("/e/chat", "/"), ("/e/chat?q", "/?q"), ("/e/chat/", "/"), ("/e/id-chat/x", "/x")]
)
def test_what_is_left_of_the_path_begins_with_a_slash(tmp_path: Path, target: str, seen: str) -> None:
    async def main() -> None:
        async with worker() as w, site(tmp_path, endpoint(w.entry())) as s:
            assert (await s.ask("GET", target)).status == 200
            assert w.asked[0].target == seen

    run(main)


def test_the_longest_prefix_of_whole_segments_wins(tmp_path: Path) -> None:
    async def main() -> None:
        async with worker() as general, worker() as special:
            short = endpoint(general.entry(), slug="a", addresses=(AddressEntry("/x/run"),))
            long = endpoint(special.entry(), slug="b", number=2, addresses=(AddressEntry("/x/run/fast", strip=False),))
            async with site(tmp_path, short, long) as s:
                for target in ("/x/run/fast/1", "/x/run/faster", "/x/run/fast"):
                    assert (await s.ask("GET", target)).status == 200
                assert [asked.target for asked in special.asked] == ["/x/run/fast/1", "/x/run/fast"]
                assert [asked.target for asked in general.asked] == ["/faster"]

    run(main)


def test_a_host_of_an_endpoint_is_its_own_whatever_the_path(tmp_path: Path) -> None:
    async def script(asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(b"page", "Set-Cookie: a=b", "Content-Security-Policy: default-src 'self'"))

    async def main() -> None:
        rows = (AddressEntry("/e/chat"), AddressEntry("/", host="chat.example.org", strip=False))
        async with worker(script) as w, site(tmp_path, endpoint(w.entry(), addresses=rows)) as s:
            client = await s.connect()
            await client.write(
                f"GET /healthz HTTP/1.1\r\nHost: Chat.example.org:80\r\nX-API-Key: {KEY}\r\n\r\n".encode()
            )
            hosted = await client.reply()
            client.close()
            assert hosted.body == b"page"
            assert hosted.header("Set-Cookie") == "a=b"
            assert hosted.header("Content-Security-Policy") == "default-src 'self'"
            shared = await s.ask("GET", "/e/chat/healthz")
            assert shared.header("Set-Cookie") is None
            assert shared.header("Content-Security-Policy") == "sandbox allow-scripts allow-forms"
            assert [asked.target for asked in w.asked] == ["/healthz", "/healthz"]

    run(main)


def test_an_unknown_host_below_a_domain_is_an_unknown_endpoint(tmp_path: Path) -> None:
    async def main() -> None:
        async with site(tmp_path, domains=("example.org",)) as s:
            client = await s.connect()
            await client.write(f"GET / HTTP/1.1\r\nHost: nobody.example.org\r\nX-API-Key: {KEY}\r\n\r\n".encode())
            assert (await client.reply()).status == 404
            client.close()

    run(main)


def test_health_is_the_gateways_own(tmp_path: Path) -> None:
    async def main() -> None:
        async with site(tmp_path, table=False) as s:
            assert (await s.ask("GET", "/healthz", secret="")).status == 200
            assert (await s.ask("GET", "/readyz", secret="")).status == 503
            for target in ("/e/chat/x", "/v1/models"):
                reply = await s.ask("GET", target)
                assert (reply.status, reply.header("X-Stoker-Reason")) == (503, "starting")
                assert reply.header("Retry-After") == "1"
            s.control.say(Snapshot(1, (), ()))
            await until(lambda: s.control.acked == 1)
            assert (await s.ask("GET", "/readyz", secret="")).status == 200

    run(main)


@pytest.mark.parametrize(
    ("access", "secret", "status"),
    [
        pytest.param("project", KEY, 200, id="a key of the project"),
        pytest.param("project", "", 401, id="no key"),
        pytest.param("project", "sk-unknown", 401, id="an unknown key"),
        pytest.param("project", OTHER_KEY, 403, id="a key of another project"),
        pytest.param("project", "sk-reader", 403, id="a key that may not invoke"),
        pytest.param("project", "sk-elsewhere", 403, id="a key for other endpoints"),
        pytest.param("attached", KEY, 403, id="a key that is not attached"),
        pytest.param("attached", OTHER_KEY, 200, id="an attached key"),
        pytest.param("attached", "", 401, id="no key where keys are attached"),
        pytest.param("open", "", 200, id="nobody, at an open endpoint"),
        pytest.param("open", OTHER_KEY, 200, id="anybody, at an open endpoint"),
    ],
)
def test_access(tmp_path: Path, access: str, secret: str, status: int) -> None:
    keys = (
        key(),
        key(OTHER_KEY, project=2),
        key("sk-reader", invoke=False),
        key("sk-elsewhere", endpoints=("id-other",)),
    )

    async def main() -> None:
        async with worker() as w:
            entry = endpoint(w.entry(), access=access, attached=(key(OTHER_KEY).digest,))
            async with site(tmp_path, entry, keys=keys) as s:
                reply = await s.ask("GET", "/e/chat/x", secret=secret)
                assert reply.status == status
                assert len(w.asked) == (status == 200)
                if status == 401:
                    assert (reply.header("WWW-Authenticate") or "").startswith("Bearer")

    run(main)


def test_an_unknown_endpoint_looks_like_any_other_without_a_key(tmp_path: Path) -> None:
    async def main() -> None:
        async with site(tmp_path) as s:
            assert (await s.ask("GET", "/e/nothing/x", secret="")).status == 401
            reply = await s.ask("GET", "/e/nothing/x")
            assert (reply.status, reply.header("X-Stoker-Reason")) == (404, "endpoint_not_found")
            assert reply.header("Content-Type") == "application/problem+json"
            assert json.loads(reply.body)["status"] == 404

    run(main)


def test_a_verified_credential_is_never_forwarded_and_a_foreign_one_is(tmp_path: Path) -> None:
    async def main() -> None:
        async with worker() as w, site(tmp_path, endpoint(w.entry(), access="open")) as s:
            await s.ask("GET", "/e/chat/1")
            await s.ask("GET", "/e/chat/2", f"X-API-Key: {KEY}", secret="")
            await s.ask("GET", "/e/chat/3", secret="somebody-elses")
            assert [asked.header("Authorization") for asked in w.asked] == [None, None, "Bearer somebody-elses"]
            assert [asked.header("X-API-Key") for asked in w.asked] == [None, None, None]

    run(main)


def test_internals_and_cookies_of_stoker_do_not_reach_a_worker(tmp_path: Path) -> None:
    async def main() -> None:
        async with worker() as w, site(tmp_path, endpoint(w.entry())) as s:
            await s.ask(
                "GET",
                "/e/chat/",
                "X-Stoker-Attempt: 7",
                "X-Stoker-Project: team",
                "X-Stoker-Hold: 5",
                "Cookie: a=1; stoker_session=secret; b=2",
                "Connection: keep-alive, X-Hop",
                "X-Hop: 1",
                "TE: trailers",
            )
            [asked] = w.asked
            assert asked.header("Cookie") == "a=1; b=2"
            assert not [name for name, _ in asked.headers if name.lower().startswith("x-stoker-")]
            assert asked.header("X-Hop") is None
            assert asked.header("TE") is None

    run(main)


def test_everything_else_goes_to_control_byte_for_byte(tmp_path: Path) -> None:
    seen: list[Asked] = []

    async def control(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        first, *lines = head[:-4].decode().split("\r\n")
        method, target, _ = first.split(" ")
        asked = Asked(method, target, [(n, v.strip()) for n, _, v in (line.partition(":") for line in lines)])
        asked.body = await read_body(reader, asked.headers, to_end=False)
        seen.append(asked)
        writer.write(b"HTTP/1.1 200 OK\r\nSet-Cookie: stoker_s=1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        await writer.drain()
        writer.write(b"2\r\nde\r\n0\r\n\r\n")
        await writer.drain()
        writer.close()

    async def main() -> None:
        async with site(tmp_path) as s:
            server = await asyncio.start_unix_server(control, str(s.settings.paths.control_socket))
            internals = ("X-Stoker-Endpoint: x", "X-Stoker-Project: team", "Cookie: stoker_s=0")
            reply = await s.ask("PUT", "/api/v1/%65ndpoints//x?b=2&a=%31", *internals, body=b"{}")
            server.close()
            assert (reply.status, reply.body, reply.header("Set-Cookie")) == (200, b"abcde", "stoker_s=1")
            assert reply.header("Content-Security-Policy") is None
            [asked] = seen
            assert (asked.target, asked.body) == ("/api/v1/%65ndpoints//x?b=2&a=%31", b"{}")
            assert asked.header("Authorization") == f"Bearer {KEY}"
            assert asked.header("Cookie") == "stoker_s=0"
            assert asked.header("X-Forwarded-For") == "127.0.0.1"
            assert asked.header("X-Stoker-Endpoint") is None
            assert asked.header("X-Stoker-Project") == "team"

    run(main)


def test_at_a_clouds_own_host_everything_but_inference_is_for_control(tmp_path: Path) -> None:
    async def script(asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(b"inferred"))

    async def control(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        target = (await reader.readuntil(b"\r\n\r\n")).split(b" ")[1]
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(target), target))
        await writer.drain()
        writer.close()

    async def main() -> None:
        rows = (AddressEntry("/e/chat"), AddressEntry("/run/chat", host="api.cloud.example"))
        async with worker(script) as w, site(tmp_path) as s:
            server = await asyncio.start_unix_server(control, str(s.settings.paths.control_socket))
            s.control.seq += 1
            entry = endpoint(w.entry(), addresses=rows)
            s.control.say(Snapshot(s.control.seq, (entry,), (key(),), management_hosts=("api.cloud.example",)))
            await until(lambda: s.control.acked >= s.control.seq)
            for path in ("/v1/tasks/7", "/healthz", "/e/chat/x"):
                expected = b"inferred" if path == "/e/chat/x" else path.encode()
                client = await s.connect()
                head = f"GET {path} HTTP/1.1\r\nHost: API.cloud.example:7878\r\nX-API-Key: {KEY}\r\n\r\n"
                await client.write(head.encode())
                assert (await client.reply()).body == expected
                client.close()
            server.close()

    run(main)


def test_control_hears_which_keys_were_used_and_not_twice(tmp_path: Path) -> None:
    async def main() -> None:
        async with worker() as w, site(tmp_path, endpoint(w.entry()), keys=(key(), key("sk-quiet"))) as s:
            await s.ask("GET", "/e/chat/x")

            def told() -> list[str]:
                return [used for report in s.control.all(Report) for used in report.keys_used]

            await until(lambda: told() != [])
            assert told() == [key().id]
            reports = len(s.control.all(Report))
            await until(lambda: len(s.control.all(Report)) > reports)
            assert told() == [key().id]

    run(main)


def test_without_control_its_pages_alone_are_unavailable(tmp_path: Path) -> None:
    async def main() -> None:
        async with worker() as w, site(tmp_path, endpoint(w.entry())) as s:
            reply = await s.ask("GET", "/api/v1/endpoints")
            assert (reply.status, reply.header("X-Stoker-Reason")) == (503, "control_unavailable")
            assert reply.header("Content-Type") == "application/problem+json"
            assert reply.header("Retry-After") is not None
            assert (await s.ask("GET", "/e/chat/")).status == 200

    run(main)


def test_the_last_table_serves_while_the_link_is_down_and_after_a_restart(tmp_path: Path) -> None:
    async def main() -> None:
        async with worker() as w:
            entry = endpoint(w.entry(), refusal=None)
            async with site(tmp_path, entry) as s:
                await s.control.close()
                assert (await s.ask("GET", "/e/chat/")).status == 200
                await until(s.settings.paths.table.exists)
                assert s.settings.paths.table.stat().st_mode & 0o777 == 0o600
            async with site(tmp_path, table=False) as s:
                assert (await s.ask("GET", "/e/chat/")).status == 200
                assert (await s.ask("GET", "/e/chat/", secret="")).status == 401

    run(main)


def test_a_pinned_address_reaches_that_worker_alone(tmp_path: Path) -> None:
    async def main() -> None:
        async with worker() as one, worker() as two:
            rows = (AddressEntry("/e/chat"), AddressEntry("/pin", worker="w2"))
            workers = (one.entry("w1"), two.entry("w2", order=2))
            async with site(tmp_path, endpoint(*workers, addresses=rows)) as s:
                for _ in range(3):
                    assert (await s.ask("GET", "/pin/x")).status == 200
                assert (len(one.asked), len(two.asked)) == (0, 3)

    run(main)


@pytest.mark.parametrize(
    ("place", "target", "header", "seen"),
    [
        pytest.param("query:api_key", f"/e/chat/x?a=1&api_key={KEY}&b", "", "/x?a=1&b", id="in the query"),
        pytest.param("query:api_key", f"/e/chat/x?api_key={KEY}", "", "/x", id="alone in the query"),
        pytest.param("header:x-mine", "/e/chat/x", f"X-Mine: {KEY}", "/x", id="in a header of its own"),
        pytest.param("scheme:apikey", "/e/chat/x", f"Authorization: APIKey {KEY}", "/x", id="with another scheme"),
    ],
)
def test_a_key_counts_where_the_address_says_and_nowhere_else(
    tmp_path: Path, place: str, target: str, header: str, seen: str
) -> None:
    async def main() -> None:
        async with worker() as w:
            rows = (AddressEntry("/e/chat", keys=(place,)), AddressEntry("/e/id-chat"))
            async with site(tmp_path, endpoint(w.entry(), addresses=rows)) as s:
                headers = [header] if header else []
                assert (await s.ask("GET", target, *headers, secret="")).status == 200
                assert w.asked[0].target == seen
                assert KEY not in str(w.asked[0])
                elsewhere = target.replace("/e/chat", "/e/id-chat")
                assert (await s.ask("GET", elsewhere, *headers, secret="")).status == 401
                assert (await s.ask("GET", "/e/chat/x")).status == 401

    run(main)


@pytest.mark.parametrize(
    ("target", "seen"),
    [
        ("/x/chat/completions?a=1", "/v1/chat/completions?a=1"),
        ("/x/v1/chat/completions", "/v1/chat/completions"),
        ("/x/v1", "/v1"),
        ("/x/v1?a", "/v1?a"),
        ("/x/v10", "/v1/v10"),
        ("/x", "/v1"),
        ("/x?a", "/v1?a"),
    ],
)
def test_a_base_path_is_put_before_what_is_not_below_it(tmp_path: Path, target: str, seen: str) -> None:
    async def main() -> None:
        rows = (AddressEntry("/x", base="/v1"),)
        async with worker() as w, site(tmp_path, endpoint(w.entry(), addresses=rows)) as s:
            assert (await s.ask("GET", target)).status == 200
            assert w.asked[0].target == seen

    run(main)


def test_an_open_address_needs_no_key_and_what_lies_below_it_does(tmp_path: Path) -> None:
    async def main() -> None:
        rows = (AddressEntry("/w"), AddressEntry("/w/end", base="/end", open=True))
        async with worker() as w, site(tmp_path, endpoint(w.entry(), addresses=rows)) as s:
            client = await s.connect()
            for target, status in (("/w/end?x=", 200), ("/w/end/../run", 401), ("/w/end/", 401), ("/w/run", 401)):
                await client.write(
                    f"POST {target} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer \r\nContent-Length: 0\r\n\r\n".encode()
                )
                assert (await client.reply()).status == status, target
            client.close()
            assert [asked.target for asked in w.asked] == ["/end?x="]

    run(main)


def test_a_key_expires_without_being_told(tmp_path: Path) -> None:
    async def main() -> None:
        now = time.time()
        keys = (key(expires_at=now + 3600), key(OTHER_KEY, expires_at=now - 1))
        async with worker() as w, site(tmp_path, endpoint(w.entry()), keys=keys) as s:
            assert (await s.ask("GET", "/e/chat/x")).status == 200
            assert (await s.ask("GET", "/e/chat/x", secret=OTHER_KEY)).status == 401

    run(main)


def test_a_client_may_choose_its_session_but_a_worker_never_sees_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with worker() as w, site(tmp_path, endpoint(w.entry("w1"), session="soft")) as s:
            reply = await s.ask("GET", "/e/chat/x", "X-Stoker-Session: mine", "X-Stoker-Worker: w1")
            assert reply.header("X-Stoker-Worker") == "w1"
            assert not [name for name, _ in w.asked[0].headers if name.lower().startswith("x-stoker")]
            assert (await s.ask("GET", "/e/chat/x")).header("X-Stoker-Worker") is None
            assert (await s.ask("GET", "/e/chat/x", f"X-Stoker-Session: {'x' * 300}")).status == 400

    run(main)


def test_a_gateway_on_its_way_out_finishes_what_waits_and_takes_no_workers_that_are_new(tmp_path: Path) -> None:
    async def main() -> None:
        async with worker() as w, site(tmp_path, endpoint()) as s:
            waiting = asyncio.create_task(s.ask("GET", "/e/chat/x"))
            admission = s.gateway.admissions["id-chat"]
            await until(lambda: admission.waiting)
            s.gateway.leave(None)
            await until(lambda: s.control.all(Leaving))
            s.control.seq += 1
            s.control.say(Snapshot(s.control.seq, (endpoint(w.entry("theirs")),), (key(),)))
            await until(lambda: s.control.acked >= s.control.seq)
            assert admission.waiting == 1, "after a lost connection, what is new belongs to the successor"
            await s.control.tell(endpoint(w.entry("shared")))
            assert (await waiting).status == 200
            assert s.reports("id-chat")[-1].kept.get("shared", 0) <= 1
            await asyncio.wait_for(s.gateway.finished(), PATIENCE_S)

    run(main)


def test_an_endpoint_for_tasks_alone_refuses_requests(tmp_path: Path) -> None:
    async def main() -> None:
        async with worker() as w, site(tmp_path, endpoint(w.entry(), tasks_only=True)) as s:
            reply = await s.ask("GET", "/e/chat/")
            assert (reply.status, reply.header("X-Stoker-Reason")) == (409, "tasks_only")
            began = await s.inside("POST", "/attempts/t1?endpoint=id-chat&method=GET&target=%2F")
            assert began.status == 202
            await until(lambda: w.asked)

    run(main)
