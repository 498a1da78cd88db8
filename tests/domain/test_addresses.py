"""Which addresses and URLs of users are refused, in every form that an address can take."""

from __future__ import annotations

from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.domain.addresses import UrlRefused, UrlRules, embedded

OFF = UrlRules()
PRIVATE_4 = (
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "224.0.0.0/4",
    "240.0.0.0/4",
)


def carried(address: IPv4Address) -> list[IPv6Address]:
    """Every IPv6 address that leads to this IPv4 address."""
    bits = int(address)
    return [
        IPv6Address(bits),
        IPv6Address(0xFFFF << 32 | bits),
        IPv6Address(0xFFFF << 48 | bits),
        IPv6Address(0x0064_FF9B << 96 | bits),
        IPv6Address(0x2002 << 112 | bits << 80 | 1),
    ]


private = st.sampled_from(PRIVATE_4).flatmap(lambda text: st.ip_addresses(v=4, network=text))


@given(private)
def test_no_private_address_is_opened_whatever_carries_it(address: Any) -> None:
    for form in (address, *carried(address)):
        assert OFF.refusal(form) is not None, form


@given(st.ip_addresses(v=4))
def test_what_carries_an_ipv4_address_is_judged_as_that_address(address: Any) -> None:
    refused = OFF.refusal(address) is not None
    for form in carried(address):
        assert embedded(form) == address
        assert (OFF.refusal(form) is not None) == refused


@given(st.ip_addresses())
def test_nothing_is_opened_that_the_language_knows_to_be_private(address: Any) -> None:
    if address.is_private or address.is_loopback or address.is_link_local or address.is_multicast:
        target = embedded(address)
        # A carrier of a public address may count as private itself.
        if target == address or OFF.refusal(target) is not None:
            assert OFF.refusal(address) is not None


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254",
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
        "fd00:ec2::254",
        "::",
        "::1",
        "fe80::1",
        "fe80::1%eth0",
        "fc00::1",
        "fec0::1",
        "ff02::1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::1",
        "2001:0:4136:e378:8000:63bf:3fff:fdd2",
        "2001:db8::1",
        "2002:7f00:1::",
        "::ffff:127.0.0.1",
    ],
)
def test_addresses_of_metadata_and_of_this_network_are_refused(address: str) -> None:
    assert OFF.refusal(ip_address(address)) is not None


@pytest.mark.parametrize("address", ["1.1.1.1", "8.8.8.8", "140.82.112.3", "2606:4700::1111", "64:ff9b::101:101"])
def test_public_addresses_are_opened(address: str) -> None:
    assert OFF.refusal(ip_address(address)) is None


@given(st.ip_addresses())
def test_the_setting_on_allows_every_address(address: Any) -> None:
    assert UrlRules.parse("on").refusal(address) is None


@given(private)
def test_a_listed_network_is_allowed_and_no_other(address: Any) -> None:
    rules = UrlRules.parse(["10.0.0.0/8"])
    inside = address in ip_network("10.0.0.0/8")
    assert (rules.refusal(address) is None) == inside
    assert (rules.refusal(carried(address)[1]) is None) == inside


@pytest.mark.parametrize("value", ["maybe", 3, ["10.0.0.1/8"], ["x"], [7], None, ["10.0.0.0/8"] * 257])
def test_a_setting_that_makes_no_sense_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"10\.0\.0\.0/8"):
        UrlRules.parse(value)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.com/",
        "file:///etc/passwd",
        "example.com",
        "http://",
        "http:///x",
        "http://user:pass@example.com/",
        "http://user@example.com/",
        "http://127.0.0.1/",
        "http://[::1]:8080/",
        "http://[::ffff:10.0.0.1]/",
        "http://exam ple.com/",
        "http://example.com/\r\nX: y",
        "http://example.com:99999/",
        "http://[::1",
        "http://example.com/" + "x" * 2048,
    ],
)
def test_a_url_that_is_wrong_in_itself_is_refused_before_anything_is_opened(url: str) -> None:
    with pytest.raises(UrlRefused):
        OFF.check(url)


def test_a_name_is_not_judged_before_it_is_looked_up() -> None:
    OFF.check("https://localhost.example.com:8443/hook?x=1")


@given(st.text(max_size=100))
def test_any_text_is_a_url_or_refused(text: str) -> None:
    with suppress(UrlRefused):
        OFF.check(text)
