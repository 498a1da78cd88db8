"""Which URLs of a user Stoker may open: rules about their form and about the addresses that they lead to. Pure.

`stoker.net` applies them at connect time; settings hold them as `allow_private_urls`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import (
    AddressValueError,
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    NetmaskValueError,
    ip_address,
    ip_network,
)
from urllib.parse import urlsplit

from stoker.domain.errors import Invalid

IpAddress = IPv4Address | IPv6Address
IpNetwork = IPv4Network | IPv6Network

URL_CHARS_MAX = 2_048
NETWORKS_MAX = 256

# What the registries of IANA call not globally reachable, and what no service listens at. Python's own opinion
# (`is_global`) has changed between its patch releases.
_REFUSED_4 = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT; some clouds' metadata is at 100.100.100.200
        "127.0.0.0/8",
        "168.63.129.16/32",  # Azure's metadata, at an otherwise public address
        "169.254.0.0/16",  # link-local, with most clouds' metadata
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
)
# Of IPv6 only this part is given out at all; all else (loopback, unique local, link-local, multicast) is refused.
_GLOBAL_6 = IPv6Network("2000::/3")
_REFUSED_6 = tuple(
    IPv6Network(text)
    for text in (
        "2001::/23",  # protocol assignments, Teredo among them, which hides an IPv4 address
        "2001:db8::/32",
        "3fff::/20",
    )
)
# Prefixes that carry an IPv4 address, and how far it is from the right. What they lead to is that address.
_CARRIERS = (
    (IPv6Network("::/96"), 0),  # IPv4-compatible, long out of use
    (IPv6Network("::ffff:0:0/96"), 0),  # IPv4-mapped
    (IPv6Network("::ffff:0:0:0/96"), 0),  # IPv4-translated
    (IPv6Network("64:ff9b::/96"), 0),  # NAT64: the only way to IPv4 on some networks
    (IPv6Network("2002::/16"), 80),  # 6to4
)


class UrlRefused(Invalid):
    """A URL that Stoker does not open: its form, or an address behind it, is not allowed."""


@dataclass(frozen=True, slots=True)
class UrlRules:
    """`allow_private`: any address will do. `networks`: private networks that will do nevertheless."""

    allow_private: bool = False
    networks: tuple[IpNetwork, ...] = ()

    @classmethod
    def parse(cls, value: object) -> UrlRules:
        """Of a setting: a boolean, `off`, `on`, or a list of networks such as `10.0.0.0/8`. Raises `ValueError`."""
        if isinstance(value, UrlRules):
            return value
        if isinstance(value, bool):
            return cls(allow_private=value)
        if value in ("on", "off"):
            return cls(allow_private=value == "on")
        if isinstance(value, Sequence) and not isinstance(value, str | bytes) and len(value) <= NETWORKS_MAX:
            return cls(networks=tuple(_network(item) for item in value))
        raise ValueError(f"expected on, off or a list of at most {NETWORKS_MAX} networks such as 10.0.0.0/8")

    def refusal(self, address: IpAddress) -> str | None:
        """Why nothing at this address may be opened, or `None` when it may."""
        if self.allow_private:
            return None
        target = embedded(address)
        if any(candidate in network for candidate in (address, target) for network in self.networks):
            return None
        if reachable_by_all(target):
            return None
        return f"{address} is not a public address; the setting allow_private_urls says which others are allowed"

    def check(self, url: str) -> None:
        """Refuse early what is wrong with the URL itself, as a private address written in it. Raises `UrlRefused`.

        A name proves nothing here: what it leads to is checked when the connection is made.
        """
        if len(url) > URL_CHARS_MAX or any(ord(c) <= 32 or ord(c) == 127 for c in url):
            raise UrlRefused(f"a URL has at most {URL_CHARS_MAX} characters, none of them blank")
        try:
            parts = urlsplit(url)
            host, _ = parts.hostname, parts.port
        except ValueError as exc:
            raise UrlRefused(f"{url[:200]!r} is not a URL: {exc}") from exc
        if parts.scheme not in ("http", "https") or not host:
            raise UrlRefused(f"{url[:200]!r} is not an http or https URL with a host")
        if parts.username is not None or parts.password is not None:
            raise UrlRefused("a URL has no user name or password in it, where everybody could read them")
        address = address_of(host)
        reason = None if address is None else self.refusal(address)
        if reason is not None:
            raise UrlRefused(reason)


def _network(value: object) -> IpNetwork:
    if not isinstance(value, str):
        raise ValueError(f"{str(value)[:64]!r} is not a network such as 10.0.0.0/8")
    try:
        return ip_network(value)
    except (AddressValueError, NetmaskValueError, ValueError) as exc:
        raise ValueError(f"{value[:64]!r} is not a network such as 10.0.0.0/8: {exc}") from exc


def address_of(text: str) -> IpAddress | None:
    """The address that a host name spells, or `None` when it is a name. A scope (`%eth0`) is left off."""
    try:
        return ip_address(text.strip("[]").partition("%")[0])
    except ValueError:
        return None


def embedded(address: IpAddress) -> IpAddress:
    """The IPv4 address that an IPv6 address carries, else the address itself."""
    if isinstance(address, IPv4Address):
        return address
    for network, shift in _CARRIERS:
        if address in network:
            return IPv4Address(int(address) >> shift & 0xFFFF_FFFF)
    # Without its scope, which no network contains.
    return IPv6Address(int(address))


def reachable_by_all(address: IpAddress) -> bool:
    """Is this an address of the public internet, and of no cloud's metadata?"""
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _REFUSED_4)
    return address in _GLOBAL_6 and not any(address in network for network in _REFUSED_6)
