"""How large weights are, by the headers of their files."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.domain.weights import WeightsSize
from stoker.engines.catalogue import resolve
from stoker.models.headers import size_of

BYTES = {"F32": 4, "BF16": 2, "F8_E4M3": 1}


def safetensors(path: Path, **tensors: tuple[str, int]) -> None:
    """A file with these tensors, each of a type and a number of elements, without what they hold."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, (dtype, count) in tensors.items():
        until = at + BYTES[dtype] * count
        header[name] = {"dtype": dtype, "shape": [count], "data_offsets": [at, until]}
        at = until
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text)


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def gguf(path: Path, *, tensors: list[tuple[int, int]], data: int) -> None:
    """A file with these tensors, each of a kind and a number of elements, and `data` bytes behind its header."""
    pairs = [
        text("general.alignment") + struct.pack("<II", 4, 64),
        text("tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, 2) + text("a") + text("b"),
        text("tokenizer.ggml.scores") + struct.pack("<IIQ", 9, 6, 3) + struct.pack("<fff", 1, 2, 3),
        text("general.name") + struct.pack("<I", 8) + text("tiny"),
    ]
    infos = [text(f"t{n}") + struct.pack("<IQIQ", 1, count, kind, 0) for n, (kind, count) in enumerate(tensors)]
    header = b"GGUF" + struct.pack("<IQQ", 3, len(infos), len(pairs)) + b"".join(pairs + infos)
    path.write_bytes(header + b"\0" * (-len(header) % 64) + b"\0" * data)


def test_the_built_in_model_is_as_large_as_its_file_without_the_header() -> None:
    path = Path(resolve("smollm2", {}).path or "")
    found = size_of(path)
    assert found is not None
    assert 0.97 * path.stat().st_size < found.total < path.stat().st_size
    assert 0 < found.float32 < found.total / 100, "norms are kept in 32 bits"


def test_a_gguf_file_counts_from_where_its_tensors_begin(tmp_path: Path) -> None:
    gguf(tmp_path / "m.gguf", tensors=[(0, 16), (2, 64)], data=100)
    assert size_of(tmp_path / "m.gguf") == WeightsSize(total=100, float32=64)


def test_all_parts_of_a_split_file_count(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        gguf(tmp_path / f"m-0000{number}-of-00003.gguf", tensors=[(2, 8)], data=1_000)
    first = tmp_path / "m-00001-of-00003.gguf"
    assert size_of(first) == WeightsSize(total=3_000)
    (tmp_path / "m-00002-of-00003.gguf").unlink()
    assert size_of(first) is None


@given(st.lists(st.tuples(st.sampled_from(sorted(BYTES)), st.integers(0, 10_000)), max_size=20))
def test_tensors_of_a_safetensors_file_are_summed_up_by_type(
    tmp_path_factory: pytest.TempPathFactory, tensors: list[tuple[str, int]]
) -> None:
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    safetensors(path, **{f"t{index}": tensor for index, tensor in enumerate(tensors)})
    assert size_of(path) == WeightsSize(
        total=sum(BYTES[dtype] * count for dtype, count in tensors),
        float32=sum(4 * count for dtype, count in tensors if dtype == "F32"),
    )


def test_of_a_folder_what_its_index_names_counts(tmp_path: Path) -> None:
    safetensors(tmp_path / "model-00001-of-00002.safetensors", a=("BF16", 100))
    safetensors(tmp_path / "model-00002-of-00002.safetensors", b=("BF16", 50))
    safetensors(tmp_path / "consolidated.safetensors", a=("BF16", 100), b=("BF16", 50))
    without = size_of(tmp_path)
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert without == size_of(tmp_path) == WeightsSize(total=300)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("m.gguf", b""),
        ("m.gguf", b"GGUX" + b"\0" * 64),
        ("m.gguf", b"GGUF" + struct.pack("<IQQ", 3, 2**60, 2**60)),
        ("m.gguf", b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text("x") + struct.pack("<I", 77)),
        ("m.safetensors", b"\xff" * 16),
        ("m.safetensors", struct.pack("<Q", 2) + b"[]"),
        ("m.safetensors", struct.pack("<Q", 10) + b'{"a": {}}}'),
        ("m.bin", b"anything"),
    ],
)
def test_what_cannot_be_read_has_no_known_size(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    assert size_of(tmp_path / name) is None
    assert size_of(tmp_path / "nothing") is None
