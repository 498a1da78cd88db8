"""Names and addresses of endpoints, and the copy on disk."""

from __future__ import annotations

from pathlib import Path

from gateway.loopback import endpoint, key
from stoker.gateway.table import Table, TableFile, host_of
from stoker.link.messages import AddressEntry, Delta, EndpointEntry, Snapshot


def table_of(*entries: EndpointEntry) -> Table:
    """A table with these endpoints."""
    table = Table()
    table.replace(Snapshot(1, entries, (key(),)))
    return table


def found(table: Table, path: bytes, host: bytes = b"") -> str | None:
    """Whose address this is."""
    address = table.find_address(host, path)
    return None if address is None else address.endpoint


def test_prefixes_match_whole_segments_and_the_longest_wins() -> None:
    table = table_of(
        endpoint(slug="a", addresses=(AddressEntry("/e/a"), AddressEntry("/e/a/sub/deep/"))),
        endpoint(slug="b", number=2, addresses=(AddressEntry("/e/a/sub"),)),
    )
    assert found(table, b"/e/a") == found(table, b"/e/a/x") == found(table, b"/e/a/sub/deep/er") == "id-a"
    assert found(table, b"/e/a/sub") == found(table, b"/e/a/sub/deeper") == "id-b"
    assert found(table, b"/e/ab") is found(table, b"/e") is found(table, b"*") is None


def test_a_host_has_its_own_rows_and_falls_back_to_those_of_every_host() -> None:
    table = table_of(
        endpoint(slug="a", addresses=(AddressEntry("/api", host="A.example"), AddressEntry("/e/a"))),
        endpoint(slug="b", number=2, addresses=(AddressEntry("/", host="b.example"),)),
    )
    assert found(table, b"/api/x", b"a.example") == "id-a"
    assert found(table, b"/e/a", b"a.example") == "id-a"
    assert found(table, b"/api", b"b.example") == "id-b"
    assert found(table, b"/api", b"c.example") is None
    assert table.is_host(b"a.example")
    table.change(Delta(2, endpoints_gone=("id-a",)))
    assert not table.is_host(b"a.example")


def test_changes_replace_names_and_rows() -> None:
    table = table_of(endpoint(slug="a"))
    table.change(Delta(2, endpoints=(endpoint(slug="a", name="New", models=("m2",), addresses=(AddressEntry("/n"),)),)))
    assert found(table, b"/n") == "id-a"
    assert found(table, b"/e/a") is None
    assert [entry.id for entry in table.named("New")] == ["id-a"]
    assert not list(table.named("A"))
    assert not list(table.serving("model-a"))
    assert [entry.id for entry in table.serving("m2")] == ["id-a"]
    table.change(Delta(3, endpoints_gone=("id-a",), keys_gone=(key().digest,)))
    assert (found(table, b"/n"), table.keys, table.by_reference("a"), table.seq) == (None, {}, None, 3)


def test_the_first_of_two_that_claim_an_address_keeps_it_through_changes_of_its_workers() -> None:
    rows = (AddressEntry("/same"),)
    table = table_of(endpoint(slug="a", addresses=rows), endpoint(slug="b", number=2, addresses=rows))
    table.change(Delta(2, endpoints=(endpoint(slug="a", addresses=rows, waiting_max=1),)))
    assert found(table, b"/same") == "id-a"
    table.change(Delta(3, endpoints_gone=("id-a",)))
    assert found(table, b"/same") == "id-b"


def test_a_reference_is_an_id_a_slug_or_a_number_but_no_name() -> None:
    table = table_of(endpoint(slug="a", number=7, name="Seven"), endpoint(slug="b", number=8, name="a"))
    for text in ("id-a", "a", "7"):
        entry = table.by_reference(text)
        assert entry is not None
        assert entry.id == "id-a"
    assert table.by_reference("Seven") is None
    assert [entry.id for entry in table.named("a")] == ["id-a", "id-b"]
    assert not list(table.named("7"))


def test_hosts_are_compared_without_port_and_case() -> None:
    assert host_of(b"A.Example:80") == host_of(b"a.example") == b"a.example"
    assert host_of(b"[::1]:80") == b"[::1]"


def test_the_saved_table_is_for_its_owner_and_forgets_refusals_of_the_moment(tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    file = TableFile(path)
    assert file.load() is None
    entries = (endpoint(slug="a", refusal="stopping"), endpoint(slug="b", number=2, refusal="stopped"))
    file.save(Snapshot(7, entries, (key(),)))
    assert path.stat().st_mode & 0o777 == 0o600
    assert [it.name for it in tmp_path.iterdir()] == ["table.json"]
    loaded = file.load()
    assert loaded is not None
    assert (loaded.seq, loaded.keys) == (7, (key(),))
    assert [entry.refusal for entry in loaded.endpoints] == [None, "stopped"]


def test_a_saved_table_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    path.write_bytes(b"{")
    assert TableFile(path).load() is None
