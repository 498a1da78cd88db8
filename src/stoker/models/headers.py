"""How much memory weights take, read from the headers of their files: GGUF and safetensors. Reads no weights.

Formats: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md and
https://huggingface.co/docs/safetensors (eight bytes of length, then JSON). Called by control.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO, Final

import msgspec

from stoker.domain.weights import WeightsSize

# As safetensors itself bounds it.
_HEADER_BYTES_MAX: Final = 100_000_000
_INDEX = "model.safetensors.index.json"
_SHARD = re.compile(r"-(\d{5})-of-(\d{5})\.gguf\Z")
_ALIGNMENT = "general.alignment"
# Of a GGUF value: its kind to what `struct` calls it; 8 is a text, 9 a list.
_SCALARS: Final = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_TEXT, _LIST = 8, 9
_GGUF_F32 = 0
_DEPTH_MAX = 4


def size_of(path: Path) -> WeightsSize | None:
    """The size of the weights in a GGUF file (all parts of a split one), a safetensors file, or a folder of these;
    `None` where there are others, or none, or their headers cannot be read.
    """
    try:
        if path.suffix == ".gguf":
            return _sum(_gguf(file) for file in _parts(path))
        files = _safetensors_of(path)
        return _sum(_safetensors(file) for file in files) if files else None
    except (OSError, ValueError, KeyError, TypeError, struct.error, msgspec.DecodeError):
        return None


def is_part(path: Path) -> bool:
    """Is this one of several GGUF files that belong together?"""
    return _SHARD.search(path.name) is not None


def _sum(sizes: Iterable[WeightsSize]) -> WeightsSize:
    each = tuple(sizes)
    return WeightsSize(total=sum(s.total for s in each), float32=sum(s.float32 for s in each))


def _parts(path: Path) -> list[Path]:
    found = _SHARD.search(path.name)
    if found is None:
        return [path]
    stem = path.name[: found.start()]
    return [path.with_name(f"{stem}-{number:05}-of-{found[2]}.gguf") for number in range(1, int(found[2]) + 1)]


def _safetensors_of(path: Path) -> list[Path]:
    if path.suffix == ".safetensors":
        return [path]
    index = path / _INDEX
    if index.is_file():
        # Some repositories have the same weights again in one file, for other programs.
        named = msgspec.json.decode(index.read_bytes(), type=dict[str, Any])["weight_map"]
        return [path / name for name in sorted(set(named.values()))]
    files = sorted(path.glob("*.safetensors"))
    return [file for file in files if not file.name.startswith("consolidated")] or files


def _safetensors(path: Path) -> WeightsSize:
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > _HEADER_BYTES_MAX:
            raise ValueError("no header of safetensors")
        header = msgspec.json.decode(file.read(length), type=dict[str, Any])
    total = float32 = 0
    for name, tensor in header.items():
        if name == "__metadata__":
            continue
        begin, end = tensor["data_offsets"]
        total += end - begin
        float32 += end - begin if tensor["dtype"] == "F32" else 0
    return WeightsSize(total=total, float32=float32)


def _gguf(path: Path) -> WeightsSize:
    """All that stands behind the header, whatever its types are."""
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise ValueError("no GGUF file")
        _version, tensors, pairs = struct.unpack("<IQQ", file.read(20))
        alignment = 32
        for _ in range(pairs):
            name = _text(file)
            value = _value(file, struct.unpack("<I", file.read(4))[0])
            alignment = int(value) if name == _ALIGNMENT else alignment
        float32 = sum(_float32(file) for _ in range(tensors))
        begin = -(-file.tell() // alignment) * alignment
    return WeightsSize(total=max(0, path.stat().st_size - begin), float32=float32)


def _float32(file: BinaryIO) -> int:
    """The bytes of one tensor that is kept in 32 bits, else nothing."""
    _text(file)
    (dimensions,) = struct.unpack("<I", file.read(4))
    if dimensions > 8:
        raise ValueError("no tensor")
    shape = struct.unpack(f"<{dimensions}Q", file.read(8 * dimensions))
    kind, _offset = struct.unpack("<IQ", file.read(12))
    if kind != _GGUF_F32:
        return 0
    count = 4
    for length in shape:
        count *= length
    return count


def _text(file: BinaryIO) -> str:
    (length,) = struct.unpack("<Q", file.read(8))
    if length > _HEADER_BYTES_MAX:
        raise ValueError("no text")
    return file.read(length).decode("utf-8", "replace")


def _value(file: BinaryIO, kind: int, depth: int = 0) -> Any:
    """One value; lists are passed over, since nothing of them counts here."""
    if kind == _TEXT:
        return _text(file)
    if kind == _LIST and depth < _DEPTH_MAX:
        inner, count = struct.unpack("<IQ", file.read(12))
        if inner in _SCALARS:
            file.seek(struct.calcsize(_SCALARS[inner]) * count, 1)
            return None
        for _ in range(count):
            _value(file, inner, depth + 1)
        return None
    (value,) = struct.unpack(f"<{_SCALARS[kind]}", file.read(struct.calcsize(_SCALARS[kind])))
    return value
