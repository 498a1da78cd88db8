"""Settings: where they come from, which wins, and what is said of those that make no sense."""

from __future__ import annotations

import re
from dataclasses import fields
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest

from stoker.domain.addresses import UrlRules
from stoker.domain.errors import Invalid
from stoker.domain.hardware import PortRange, Prices, VirtualGpus
from stoker.domain.images import ImageRule
from stoker.settings import Settings, read

# For each key: as it stands in the file, as it stands in the environment, and what both mean.
KEYS: dict[str, tuple[str, str, Any]] = {
    "database": ("postgresql://u@h/d", "postgresql://u@h/d", "postgresql://u@h/d"),
    "host": ("0.0.0.0", "0.0.0.0", "0.0.0.0"),
    "port": ("8080", "8080", 8080),
    "external_url": ("https://x.test/", "https://x.test/", "https://x.test/"),
    "cors_origins": ("['https://a.test:8443', '*']", "['https://a.test:8443', '*']", ("https://a.test:8443", "*")),
    "domains": ("[a.test, b.test]", "[a.test, b.test]", ("a.test", "b.test")),
    "allow_private_urls": ("[10.0.0.0/8]", "[10.0.0.0/8]", UrlRules(networks=(IPv4Network("10.0.0.0/8"),))),
    "trusted_proxies": ("[10.1.0.0/8, '::1']", "[10.1.0.0/8, '::1']", ("10.0.0.0/8", "::1/128")),
    "tls_cert": ("/c.pem", "/c.pem", "/c.pem"),
    "tls_key": ("/k.pem", "/k.pem", "/k.pem"),
    "models": ("{m: /m.gguf}", "{m: /m.gguf}", {"m": "/m.gguf"}),
    "models_cache_gib": ("50", "50", 50.0),
    "downloads_at_once": ("3", "3", 3),
    "download_mib_per_s": ("12.5", "12.5", 12.5),
    "hf_endpoint": ("https://hub.test/", "https://hub.test", "https://hub.test"),
    "providers": (
        "{process: {}, docker: {publish: 10.0.0.1}}",
        "{process: , docker: {publish: 10.0.0.1}}",
        {"process": {}, "docker": {"publish": "10.0.0.1"}},
    ),
    "region": ("eu", "eu", "eu"),
    "regions": ("{eu: 7, local: 1}", "{eu: 7, local: 1}", {"eu": 7, "local": 1}),
    "zone": ("lab-1", "lab-1", "lab-1"),
    "virtual_gpus": (
        "[{family: a5000, count: 4, vram_gib: 24, vcpu: 8, ram_gib: 32, region: local}, 2xA100-40GB:2]",
        "[{family: gpua5000, count: 4, vram_gib: 24, vcpu: 8, ram_gib: 32}, a100:2:40]",
        (
            VirtualGpus(family="a5000", count=4, vram_gib=24.0, vcpu=8.0, ram_gib=32.0, region="local"),
            VirtualGpus(family="a100", count=2, vram_gib=40.0),
        ),
    ),
    "images": (
        '{"vllm/*": {model: m, parameters: [--max-model-len=8]}, "nginx": {command: [serve, "{port}"]}}',
        '{"vllm/*": {model: m, parameters: [--max-model-len=8]}, "nginx": {command: [serve, "{port}"]}}',
        (
            ImageRule(pattern="vllm/*", model="m", parameters=("--max-model-len=8",)),
            ImageRule(pattern="nginx", command=("serve", "{port}")),
        ),
    ),
    "volumes_dir": ("/srv/volumes", "/srv/volumes", "/srv/volumes"),
    "worker_ports": ("21000-21999", "21000-21999", PortRange(21_000, 21_999)),
    "worker_log_mib": ("1.5", "1.5", 1.5),
    "workers_kept": ("7", "7", 7),
    "eviction_residence_s": ("2.5", "2.5", 2.5),
    "operation_timeout_s": ("60", "60", 60.0),
    "events_kept": ("500", "500", 500),
    "decisions_kept": ("600", "600", 600),
    "audit_kept": ("700", "700", 700),
    "buffer_mib": ("64", "64", 64.0),
    "attempt_mib": ("1", "1", 1.0),
    "attempts_mib": ("2", "2", 2.0),
    "upgrade_drain_s": ("5", "5", 5.0),
    "metrics_open": ("true", "true", True),
    "access_log": ("a.log", "a.log", "a.log"),
    "prices": (
        "{H100 SXM: 2.5, cpu: 1, vcpu: 0.01}",
        "{h100: 2.5, cpu: 1, vcpu: 0.01, currency: USD}",
        Prices(gpus={"h100": 2.5}, cpu=1.0, vcpu=0.01),
    ),
    "usage_days": ("30", "30", 30.0),
    "requests_days": ("3", "3", 3.0),
    "requests_mib": ("8", "8", 8.0),
    "requests_total_mib": ("80", "80", 80.0),
    "ended_workers_kept_s": ("61", "61", 61.0),
    "operations_kept_s": ("62", "62", 62.0),
    "ended_keys_kept_s": ("63", "63", 63.0),
    "idempotency_kept_s": ("64", "64", 64.0),
    "log_level": ("debug", "debug", "debug"),
}


def write(folder: Path, text: str) -> None:
    (folder / "stoker.yaml").write_text(text, encoding="utf-8")


def test_every_key_can_be_set_in_the_file_and_in_the_environment(tmp_path: Path) -> None:
    assert set(KEYS) == {field.name for field in fields(Settings)} - {"data_dir"}
    write(tmp_path, "\n".join(f"{name}: {text}" for name, (text, _, _) in KEYS.items()))
    by_file = read({}, data_dir=tmp_path)
    environ = {f"STOKER_{name.upper()}": text for name, (_, text, _) in KEYS.items()}
    by_environment = read(environ, data_dir=tmp_path / "elsewhere")
    for name, (_, _, value) in KEYS.items():
        assert getattr(by_file, name) == getattr(by_environment, name) == value, name


def test_an_argument_wins_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    write(tmp_path, "port: 1001\nlog_level: error")
    environ = {"STOKER_PORT": "1002"}
    assert read({}, data_dir=tmp_path).port == 1001
    assert read(environ, data_dir=tmp_path).port == 1002
    found = read(environ, data_dir=tmp_path, overrides={"port": 1003, "log_level": None})
    assert (found.port, found.log_level) == (1003, "error"), "an argument that was not given is none"


def test_the_data_folder_is_that_of_the_argument_or_the_environment_or_at_home(tmp_path: Path) -> None:
    environ = {"STOKER_DATA_DIR": str(tmp_path / "a")}
    assert read(environ).data_dir == tmp_path / "a"
    assert read(environ, data_dir=tmp_path / "b").data_dir == tmp_path / "b"
    assert read({"STOKER_DATA_DIR": "~/x"}).data_dir == Path.home() / "x"
    assert read({"STOKER_DATA_DIR": "x"}).data_dir == Path.cwd() / "x"
    assert read({"STOKER_DATA_DIR": ""}).data_dir == Path.home() / ".stoker"


@pytest.mark.parametrize("text", ["", "\n", "# port: 1\n", "---\n", "{}"])
def test_a_file_in_which_nothing_is_set_is_as_good_as_none(tmp_path: Path, text: str) -> None:
    write(tmp_path, text)
    assert read({}, data_dir=tmp_path) == Settings(data_dir=tmp_path)


@pytest.mark.parametrize("host", ["::", "::1", "1", "on", "0x7f.1", "fe80::1%eth0"])
def test_text_in_the_environment_is_taken_as_it_is(tmp_path: Path, host: str) -> None:
    assert read({"STOKER_HOST": host}, data_dir=tmp_path).host == host


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("port: [", r"stoker\.yaml is not YAML: .*line 1", id="no YAML"),
        pytest.param("host: x\nport: 1\nport: 2", r"not YAML: .*line 3", id="twice"),
        pytest.param("port: 2026-13-45", r"stoker\.yaml has a value that cannot be read: .*month", id="no date"),
        pytest.param(f"port: {'[' * 3000}{']' * 3000}", "nested too deeply", id="nested without end"),
        pytest.param("- port", "expected a mapping", id="a list"),
        pytest.param("just text", "expected a mapping", id="text"),
        pytest.param("prot: 1", "unknown setting 'prot'; there are .*port", id="unknown"),
        pytest.param("5: 1\nx: 2", "unknown setting '5'", id="a number for a name"),
        pytest.param("data_dir: /x", "unknown setting 'data_dir'", id="a folder within itself"),
        pytest.param("port: http", "setting port cannot be 'http': expected a whole number", id="text for a number"),
        pytest.param("port: true", "setting port cannot be 'True'", id="yes for a number"),
        pytest.param("port: 0", "port .* between 1 and 65535", id="too small"),
        pytest.param("port: 65536", "port .* between 1 and 65535", id="too large"),
        pytest.param("port: 1.5", "port .* whole number", id="half a port"),
        pytest.param("host: 5", "host .* expected text", id="a number for text"),
        pytest.param("domains: a.test", "domains .* list of texts", id="text for a list"),
        pytest.param("cors_origins: [https://a.test/]", "cors_origins .* without a path", id="an origin with a path"),
        pytest.param("cors_origins: [a.test]", "cors_origins .* expected origins", id="an origin without a scheme"),
        pytest.param("domains: [1]", "domains .* expected text", id="numbers in a list"),
        pytest.param("models: [a]", "models .* mapping of texts", id="a list for a mapping"),
        pytest.param("region: moon", "'moon' has no number; the setting regions has local", id="a region of no number"),
        pytest.param("virtual_gpus: [{family: a5000, region: moon}]", "'moon' has no number", id="cards on the moon"),
        pytest.param("regions: {}", "regions .* names with numbers", id="no region"),
        pytest.param("regions: {a: 1, b: 1}", "regions .* number of its own", id="two regions of one number"),
        pytest.param("regions: {a: 0}", "regions .* between 1", id="a number that is none"),
        pytest.param("regions: {a: true}", "regions .* whole number", id="yes for a region's number"),
        pytest.param("virtual_gpus: a5000:4", "virtual_gpus .* expected a list", id="one card for a list"),
        pytest.param("virtual_gpus: [a5001]", "no GPU family 'a5001'; did you mean .*a5000", id="an unknown card"),
        pytest.param("virtual_gpus: [a5000:0]", "virtual_gpus .* count must be between", id="no cards"),
        pytest.param("virtual_gpus: [a5000:x]", "virtual_gpus .* FAMILY:COUNT:GIB", id="no number of cards"),
        pytest.param("virtual_gpus: [{count: 1}]", "virtual_gpus .* mapping with family", id="cards of no family"),
        pytest.param("virtual_gpus: [{family: a40, size: 1}]", "no 'size' here", id="cards with something else"),
        pytest.param("virtual_gpus: [{family: a40, vcpu: '8'}]", "vcpu must be a number", id="text for processors"),
        pytest.param("prices: 5", "prices .* expected a mapping", id="one price for all"),
        pytest.param("prices: {h1000: 5}", "did you mean .*h100", id="a price of an unknown card"),
        pytest.param("prices: {h100: -5}", "price of h100 must be between", id="less than nothing"),
        pytest.param("prices: {currency: usd}", "three capitals", id="no currency"),
        pytest.param("prices: {vcpu: .nan}", "price of vcpu must be", id="no price"),
        pytest.param("images: [nginx]", "images .* expected patterns", id="a list of images"),
        pytest.param("images: {nginx: {}}", "images .* once: a model or a command", id="nothing instead of an image"),
        pytest.param(
            "images: {nginx: {model: m, command: [x]}}", "once: a model or a command", id="two things instead"
        ),
        pytest.param("images: {nginx: {command: serve}}", "command is a list of texts", id="text for a command"),
        pytest.param("images: {'a b': {model: m}}", "no pattern for images", id="no image"),
        pytest.param("images: {a: {command: [x], parameters: [y]}}", "need a model", id="parameters of no model"),
        pytest.param("worker_ports: 20000", "worker_ports .* FIRST-LAST", id="one port for a range"),
        pytest.param("worker_ports: 20000-", "worker_ports .* FIRST-LAST", id="half a range"),
        pytest.param("worker_ports: 30000-20000", "worker_ports .* FIRST-LAST", id="a range backwards"),
        pytest.param("worker_ports: 80-90", "worker_ports .* 1024", id="ports of the system"),
        pytest.param("operation_timeout_s: .nan", "operation_timeout_s .* between", id="no number"),
        pytest.param("operation_timeout_s: .inf", "operation_timeout_s .* between", id="for ever"),
        pytest.param("workers_kept: -1", "workers_kept .* between", id="fewer than none"),
        pytest.param("log_level: loud", "log_level .* debug, info, warning or error", id="no level"),
    ],
)
def test_a_setting_that_makes_no_sense_is_named_with_what_is_expected(tmp_path: Path, text: str, said: str) -> None:
    write(tmp_path, text)
    with pytest.raises(Invalid) as caught:
        read({}, data_dir=tmp_path)
    assert re.search(said, str(caught.value)), str(caught.value)


def test_a_variable_that_makes_no_sense_is_named_too(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="setting port"):
        read({"STOKER_PORT": "http"}, data_dir=tmp_path)
    with pytest.raises(Invalid, match="STOKER_DOMAINS is not YAML"):
        read({"STOKER_DOMAINS": "[a"}, data_dir=tmp_path)
    with pytest.raises(Invalid, match="log_level"):
        read({"STOKER_LOG_LEVEL": "loud"}, data_dir=tmp_path)
    with pytest.raises(Invalid, match="unknown setting 'nothing'"):
        read({}, data_dir=tmp_path, overrides={"nothing": 1})


def test_a_file_that_cannot_be_read_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "stoker.yaml").write_bytes(b"host: \xff")
    with pytest.raises(Invalid, match=r"stoker\.yaml cannot be read"):
        read({}, data_dir=tmp_path)
    (tmp_path / "stoker.yaml").unlink()
    (tmp_path / "stoker.yaml").mkdir()
    with pytest.raises(Invalid, match=r"stoker\.yaml cannot be read"):
        read({}, data_dir=tmp_path)


@pytest.mark.parametrize(
    ("settings", "url"),
    [
        (Settings(), "http://127.0.0.1:7878"),
        (Settings(host="::1", port=80), "http://[::1]:80"),
        (Settings(external_url="https://x.test/"), "https://x.test"),
        (Settings(external_url=""), "http://127.0.0.1:7878"),
    ],
)
def test_the_address_that_is_handed_out(settings: Settings, url: str) -> None:
    assert settings.url == url


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("mysql://u:pass-word@h/d", id="another database"),
        pytest.param("u:pass-word@h/d", id="no scheme"),
        pytest.param("postgresql://u:pass-word@h", id="no name"),
        pytest.param("postgresql://u:pass-word@h/", id="an empty name"),
        pytest.param("postgresql://u@h:pass-word/d", id="a port that is none"),
    ],
)
def test_a_database_address_that_is_wrong_is_refused_without_repeating_it(tmp_path: Path, value: str) -> None:
    with pytest.raises(Invalid, match="database") as refused:
        read({"STOKER_DATABASE": value}, data_dir=tmp_path)
    assert "pass-word" not in str(refused.value)
    assert refused.value.__cause__ is None


def test_settings_are_shown_without_the_database() -> None:
    assert "pass-word" not in repr(Settings(database="postgresql://u:pass-word@h/d"))


def test_a_providers_own_prices_count_before_those_of_all(tmp_path: Path) -> None:
    given = {"STOKER_PROVIDERS": "{process: {}, box: {type: docker, prices: {h100: 3}}}", "STOKER_PRICES": "{cpu: 1}"}
    settings = read(given, data_dir=tmp_path)
    assert settings.prices_of("box") == Prices(gpus={"h100": 3.0})
    assert settings.prices_of("process") == Prices(cpu=1.0)


@pytest.mark.parametrize(
    "text",
    [
        *("[]", "docker", "{Docker: {}}", "{docker: 3}", "[../evil]", "{box: {type: ../evil}}"),
        *("{box: {type: process}}", "{docker: {prices: {h100: -1}}}"),
    ],
)
def test_providers_are_names_with_options(tmp_path: Path, text: str) -> None:
    with pytest.raises(Invalid, match="providers"):
        read({"STOKER_PROVIDERS": text}, data_dir=tmp_path)
    assert read({"STOKER_PROVIDERS": "[process, docker]"}, data_dir=tmp_path).providers == {"process": {}, "docker": {}}
