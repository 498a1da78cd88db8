"""Which tests one process of `make test` runs in a row: those that share what takes long to start. Called by xdist, as
`--dist loadscope` asks for it.
"""

from __future__ import annotations

from xdist.scheduler import LoadScopeScheduling

# Of these folders' files, those that have a Stoker of their own and share nothing with their neighbours.
_ALONE = ("test_grammar.py", "test_schema.py", "test_unmodified.py")


class SharingOut(LoadScopeScheduling):  # type: ignore[misc]
    """One unit is a cloud's clients with their one Stoker, all tests of the one Docker engine, a whole file, or, where
    each test starts a Stoker, a single test.
    """

    def _split_scope(self, nodeid: str) -> str:
        return unit_of(nodeid)


def unit_of(nodeid: str) -> str:
    """The name of the unit that a test belongs to."""
    path = nodeid.partition("::")[0]
    folder, _, file = path.rpartition("/")
    if "docker" in nodeid:
        return "docker"
    if folder.endswith("tests/acceptance"):
        return nodeid
    if "tests/clients/" in folder and file not in _ALONE:
        return folder
    return path


def turn_of(nodeid: str, *, processes: bool) -> int:
    """What comes first: long units, then single tests of real processes, then what is short and fills the gaps."""
    unit = unit_of(nodeid)
    if unit == "docker" or "tests/clients/" in unit:
        return 0
    return 1 if processes else 2
