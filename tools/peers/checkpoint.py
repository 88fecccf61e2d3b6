"""Tensors of a Hugging Face directory as numpy arrays that lie in the mapped files. BF16 comes as uint16."""
import json
import pathlib

import numpy as np

_TYPES = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16, "I32": np.int32, "F8_E4M3": np.uint8}


def read_file(path):
    """{name: (dtype name, array)} of one safetensors file."""
    path = pathlib.Path(path)
    with path.open("rb") as f:
        length = int.from_bytes(f.read(8), "little")
        header = json.loads(f.read(length))
    data = np.memmap(path, np.uint8, "r", offset=8 + length)
    tensors = {}
    for name, info in header.items():
        if name == "__metadata__":
            continue
        begin, end = info["data_offsets"]
        tensors[name] = (info["dtype"], data[begin:end].view(_TYPES[info["dtype"]]).reshape(info["shape"]))
    return tensors


def read(directory):
    """The configuration and all tensors of a directory."""
    directory = pathlib.Path(directory)
    config = json.loads((directory / "config.json").read_text())
    index = directory / "model.safetensors.index.json"
    files = ["model.safetensors"]
    if index.exists():
        files = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    tensors = {}
    for name in files:
        tensors.update(read_file(directory / name))
    return config, tensors


def bf16_to_f32(bits):
    return (bits.astype(np.uint32) << 16).view(np.float32)


def f32_to_bf16(values):
    """Round to nearest, ties to even; finite values."""
    u = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((u + 0x7FFF + ((u >> 16) & 1)) >> 16).astype(np.uint16)
