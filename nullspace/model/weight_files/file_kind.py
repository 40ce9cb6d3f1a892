"""What a weights file is, by its first bytes: its name decides nothing."""

from __future__ import annotations

import struct
import zipfile
from enum import Enum
from pathlib import Path

from nullspace.errors import WeightsError

_HEAD = 512
_SAFETENSORS_HEADER = 100_000_000  # bytes; the format allows no longer one
_FOREIGN = (  # first bytes, what begins so, what to do
    (b"version https://git-lfs", "a Git LFS pointer, not the file it points to", "run `git lfs pull` where it lies"),
    (b"\x1f\x8b", "compressed with gzip", "unpack it with gunzip"),
    (b"BZh", "compressed with bzip2", "unpack it"),
    (b"\xfd7zXZ", "compressed with xz", "unpack it"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd", "unpack it"),
    (b"7z\xbc\xaf", "a 7z archive", "unpack it"),
    (b"\x89HDF", "HDF5, as Keras writes it", "convert it to safetensors"),
    (b"GGUF", "GGUF, as llama.cpp reads it", "give the safetensors it was made from"),
    (b"\x93NUMPY", "a single numpy array", "give a state dict, as .safetensors or .pth"),
)
_WANTED = "expected weights as safetensors, a PyTorch checkpoint or big_vision's .npz"


class FileKind(Enum):
    """The formats that can be read."""

    SAFETENSORS = "safetensors"
    TORCH = "torch"
    NPZ = "npz"


def kind_of(path: Path) -> FileKind:
    """The format of a weights file. Raises WeightsError that names what it is instead, and what to do."""
    if path.is_dir():
        raise WeightsError(
            f"{path} is a folder: expected a weights file, give the one in it; a folder with config.json and weights "
            f"is a model by itself, named local-dir:{path}"
        )
    if not path.is_file():
        raise WeightsError(f"expected a weights file, got {str(path)!r}, which is no file; check the path")
    try:
        with path.open("rb") as opened:
            head = opened.read(_HEAD)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read ({error.strerror or error}); check its permissions") from error
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _kind_of_zip(path)
    if _is_safetensors(head):
        return FileKind.SAFETENSORS
    what, remedy = _foreign(head)
    if what:
        raise WeightsError(f"{path} is {what}: {_WANTED}; {remedy}")
    if head.startswith(b"\x80"):  # a pickle: how PyTorch wrote files before version 1.6
        return FileKind.TORCH
    raise WeightsError(f"{path} is in no known format: {_WANTED}; damaged? fetch it again, or convert it")


def _is_safetensors(head: bytes) -> bool:
    if len(head) < 9:
        return False
    (length,) = struct.unpack("<Q", head[:8])
    return head[8:9] == b"{" and 2 <= length <= _SAFETENSORS_HEADER


def _foreign(head: bytes) -> tuple[str, str]:
    if not head:
        return "empty", "fetch it again"
    for begin, what, remedy in _FOREIGN:
        if head.startswith(begin):
            return what, remedy
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "a web page, perhaps of an error or a login", "fetch the file itself"
    if text.startswith((b"{", b"[")):
        return "JSON text, such as an index of several files", "give the weights as one file"
    if head[257:262] == b"ustar":
        return "a tar archive, or a checkpoint of PyTorch before 0.2", "unpack it; give the weights file in it"
    if head[:1] == b"\x08" and (head[2:3] in (b"\x12", b":") or b"onnx" in head or b"pytorch" in head):
        return "ONNX", "give the state dict it was exported from"
    if head[4:8] == b"TFL3":
        return "TensorFlow Lite", "give the state dict it was made from"
    return "", ""


def _kind_of_zip(path: Path) -> FileKind:
    try:
        with zipfile.ZipFile(path) as opened:
            names = opened.namelist()
    except (zipfile.BadZipFile, OSError) as error:
        raise WeightsError(f"{path} is damaged: a zip archive that is cut off ({error}); fetch it again") from error
    last = {name.rpartition("/")[2] for name in names}
    if "constants.pkl" in last:
        raise WeightsError(
            f"{path} is TorchScript, a program, and is never loaded; save the state dict of the model it was made from"
        )
    if "data.pkl" in last:
        return FileKind.TORCH
    if names and all(name.endswith(".npy") for name in names):
        return FileKind.NPZ
    raise WeightsError(f"{path} is a zip archive but no PyTorch checkpoint: {_WANTED}; unpack it")
