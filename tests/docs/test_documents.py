"""The documents say what is there: reference pages as the code is, every refusal, links that lead somewhere."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from ruamel.yaml import YAML

from stoker.api.wire.spec import SpecIn

ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_reference_pages_are_as_the_code_is() -> None:
    for name, text in generator().pages().items():
        written = (ROOT / "docs" / "reference" / name).read_text(encoding="utf-8")
        assert written == text, f"docs/reference/{name} is out of date: make docs"


def test_tables_of_dialects_are_as_their_tests_are() -> None:
    for name, text in generator().tables().items():
        written = (ROOT / "docs" / "dialects" / name).read_text(encoding="utf-8")
        assert written == text, f"docs/dialects/{name} is out of date: make docs"


def test_every_route_is_in_the_reference_with_its_scope() -> None:
    text = (ROOT / "docs" / "reference" / "api.md").read_text()
    paths = generator().api().openapi()["paths"]
    assert paths
    for path, methods in paths.items():
        for method in methods:
            assert re.search(
                rf"\| {method.upper()} \| `{re.escape(path)}` \| (read|invoke|deploy|admin|installation) \|", text
            )


def test_every_reason_for_a_refusal_is_explained() -> None:
    sources = "".join(path.read_text() for path in (ROOT / "src" / "stoker" / "gateway").glob("*.py"))
    sources += (ROOT / "src" / "stoker" / "control" / "table.py").read_text()
    calls = r'(?:failure\(\s*\d+,|Refusal\(|_fail\(\s*\d+,|return)\s*"([a-z]+_[a-z_]+|busy|stopped|stopping|deleting)"'
    # OpenAI's own types of errors are answered beside the reason.
    reasons = {reason for reason in re.findall(calls, sources) if not reason.endswith("_error")}
    assert {"wait_expired", "start_failed", "worker_failed", "model_ambiguous", "first_byte_timeout"} <= reasons
    text = (ROOT / "docs" / "refusals.md").read_text()
    assert [reason for reason in sorted(reasons) if f"`{reason}`" not in text] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_documents_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def example() -> Any:
    return YAML(typ="safe", pure=True).load((ROOT / "examples" / "endpoint.yaml").read_text())


def test_the_example_is_a_valid_endpoint() -> None:
    assert SpecIn(**example()).to_spec().name == "chat"


def test_the_example_shows_every_field() -> None:
    text = (ROOT / "examples" / "endpoint.yaml").read_text()
    schema = SpecIn.model_json_schema()
    definitions = [schema, *schema["$defs"].values()]
    names = {name for definition in definitions for name in definition.get("properties", {})}
    assert {"launch", "drain_timeout_s", "vram_gib_min"} <= names
    assert [name for name in sorted(names) if not re.search(rf"^[\s#-]*{name}:", text, re.MULTILINE)] == []


def test_documents_name_no_machine_and_no_registry() -> None:
    for page in PAGES:
        assert not re.search(r"/work/|/root/|pypi\.org|files\.pythonhosted|registry\.npmjs", page.read_text()), page
