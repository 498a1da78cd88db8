"""What workers are told of where a request came from."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path

import pytest

from gateway.loopback import endpoint, run, site, worker
from stoker.gateway.forwarded import Peer

NETWORKS = (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))


@pytest.mark.parametrize(
    ("address", "trusted"),
    [
        ("10.1.2.3", True),
        ("11.1.2.3", False),
        ("::ffff:10.1.2.3", True),
        ("fd00::1%eth0", True),
        ("fe80::1", False),
        ("unknown", False),
    ],
)
def test_a_proxy_is_trusted_by_its_network(address: str, trusted: bool) -> None:
    assert Peer(address, secure=False, networks=NETWORKS).trusted is trusted
    assert not Peer(address, secure=False, networks=()).trusted


def test_what_a_trusted_proxy_says_is_kept_and_this_hop_is_added() -> None:
    peer = Peer("10.0.0.1", secure=True, networks=NETWORKS)
    said = [
        (b"X-Forwarded-For", b"1.1.1.1"),
        (b"x-forwarded-for", b"2.2.2.2"),
        (b"X-Forwarded-Proto", b"http"),
        (b"X-Forwarded-Prefix", b"/p"),
        (b"X-Real-IP", b"1.1.1.1"),
    ]
    assert peer.extended(said, b"host") == (
        b"X-Forwarded-For: 1.1.1.1, 2.2.2.2, 10.0.0.1\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Prefix: /p\r\n"
        b"X-Real-Ip: 1.1.1.1\r\nX-Forwarded-Host: host\r\n"
    )


def test_the_standard_header_is_extended_where_it_is_used() -> None:
    peer = Peer("fd00::1", secure=True, networks=NETWORKS)
    assert peer.extended([(b"Forwarded", b"for=1.1.1.1")], b"host") == (
        b'Forwarded: for=1.1.1.1, for="[fd00::1]";proto=https\r\n'
    )


def test_a_client_is_told_of_in_both_ways() -> None:
    peer = Peer("1.1.1.1", secure=False, networks=NETWORKS)
    assert peer.lines == (
        b"X-Forwarded-For: 1.1.1.1\r\nX-Forwarded-Proto: http\r\nForwarded: for=1.1.1.1;proto=http\r\n"
    )


@pytest.mark.parametrize(("networks", "told"), [(("127.0.0.0/8",), "1.1.1.1, 127.0.0.1"), ((), "127.0.0.1")])
def test_the_settings_say_who_is_trusted(tmp_path: Path, networks: tuple[str, ...], told: str) -> None:
    async def main() -> None:
        async with worker() as w, site(tmp_path, endpoint(w.entry()), trusted_proxies=networks) as s:
            await s.ask("GET", "/e/chat/x", "X-Forwarded-For: 1.1.1.1", "traceparent: 00-a-b-01")
            assert w.asked[0].header("X-Forwarded-For") == told
            assert w.asked[0].header("traceparent") == "00-a-b-01"

    run(main)
