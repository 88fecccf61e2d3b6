"""Tensors of a Hugging Face directory as numpy arrays that lie in the mapped files. BF16 comes as uint16, E4M3 as uint8."""
import json
import pathlib

import numpy as np

_TYPES = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16, "I32": np.int32, "I64": np.int64, "F8_E4M3": np.uint8}


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


def _e4m3_values():
    """float32 of the 256 codes: sign, 4 bits of exponent with bias 7, 3 of mantissa; no infinities, 0x7F and 0xFF are NaN."""
    code = np.arange(256)
    exponent, mantissa = code >> 3 & 15, code & 7
    magnitude = np.where(exponent == 0, mantissa * 2.0**-9, (8 + mantissa) * 2.0 ** (exponent - 10))
    magnitude[(code & 0x7F) == 0x7F] = np.nan
    return np.where(code & 0x80, -magnitude, magnitude).astype(np.float32)


def to_f32(config, tensors):
    """{name: float32 array} of what read() gave. E4M3 times the weight_scale_inv of its block; the scales are gone."""
    e4m3 = _e4m3_values()
    block = config.get("quantization_config", {}).get("weight_block_size")
    weights = {}
    for name, (dtype, values) in tensors.items():
        if name.endswith(".weight_scale_inv"):
            continue
        if dtype == "F8_E4M3":
            rows, columns = values.shape
            scale = np.asarray(tensors[name + "_scale_inv"][1], np.float32)
            scale = scale.repeat(block[0], 0)[:rows].repeat(block[1], 1)[:, :columns]
            weights[name] = e4m3[values] * scale
        else:
            weights[name] = bf16_to_f32(values) if dtype == "BF16" else np.array(values, np.float32)
    return weights
