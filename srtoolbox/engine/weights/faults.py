"""Explains why a file could not be read as weights, and what to do about it."""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from srtoolbox.errors import UserError

_LEGACY_HEAD = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # of torch's files before version 1.6
_MAX_HEADER = 10_000_000  # bytes of a header of safetensors
_OTHER_FILES = {  # how they begin
    rb"\Z": "is empty; download or copy it again",
    rb"version https://git-lfs": "is a Git LFS pointer, not the weight file itself; fetch the file "
    "by `git lfs pull` in its repository",
    rb"(?i)(\xef\xbb\xbf)?\s*<(!doctype|html|head|\?xml|!--)": "is a web page saved under the name "
    "of a weight file; download the file itself (the host may ask for a log-in or a confirmation "
    "first)",
}
PICKLED_OBJECT = re.compile(r"GLOBAL (\S+)")  # in the error of torch's restricted unpickler


def is_safetensors(head: bytes) -> bool:
    """Returns whether a file begins with the length of a JSON header (at most 100 MB) and "{"."""
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= 100_000_000


def explain_fault(path: Path, head: bytes, error: Exception) -> str:
    """Returns the fault of a file and its remedy, as the end of a message.

    Args:
        path: The file.
        head: Its first 512 bytes.
        error: The error of the reader of its format.
    """
    for beginning, fault in _OTHER_FILES.items():
        if re.match(beginning, head):
            return fault
    if _is_cut_off(path, head, error):
        return (
            f"incomplete: the file is cut off after {path.stat().st_size} bytes; download or copy "
            "it again"
        )
    found = PICKLED_OBJECT.search(str(error))
    if found or head[:1] == b"\x80":
        what = f" ({found[1]})" if found else ""
        return (
            f"holds pickled Python objects{what}, as written by torch.save(net), not only tensors; "
            "they are not loaded, since they could run any code; load the file in the project that "
            "wrote it and save net.state_dict()"
        )
    if "TorchScript" in str(error):
        return "is a TorchScript program, not a file of tensors; save its state_dict() instead"
    if zipfile.is_zipfile(path) and not any(
        name.endswith("/data.pkl") for name in zipfile.ZipFile(path).namelist()
    ):
        return "is a zip archive, not a file of tensors; unpack it first"
    size = path.stat().st_size
    kind = "a text file" if _is_text(head) else f"{size} bytes of another format"
    return f"is {kind}, not a weight file; give a .pth, .pt or .safetensors file"


def _is_text(head: bytes) -> bool:
    try:
        text = head.decode()
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3:  # otherwise the last character is cut off
            return False
        text = head[: error.start].decode()
    return bool(text) and all(char.isprintable() or char in "\t\r\n" for char in text)


def archive_fault(path: Path, head: bytes) -> str | None:
    """Returns what forbids to read a file of tensors at all; None if nothing does.

    Tensors of torch are stored as they are: compressed or overlapping ones fill the memory, though
    the file is small. A header of safetensors has about a hundred bytes for each tensor.
    """
    if is_safetensors(head):
        length = int.from_bytes(head[:8], "little")
        if _MAX_HEADER < length <= path.stat().st_size:
            return f"has a header of {length} bytes; the maximum is {_MAX_HEADER}"
    if not head.startswith(b"PK\x03\x04"):
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError):
        return None  # the reader of torch gives the reason
    if not any(entry.filename.endswith("/data.pkl") for entry in entries):
        return None
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        return (
            "holds compressed tensors, which torch.save never writes; unpack it, pack it without "
            "compression (`zip -0 -r`), or save the weights again"
        )
    if sum(entry.file_size for entry in entries) > path.stat().st_size:
        return "is damaged: its parts overlap; download or copy it again"
    return None


def tensor_fault(value: Any) -> str | None:
    """Returns the kind of a tensor whose values cannot be copied; None for all other values."""
    if not isinstance(value, Tensor):
        return None
    if value.is_nested:
        return "a nested tensor"
    if value.is_meta:
        return "a tensor without values (device meta)"
    if value.is_quantized:
        return "a quantised tensor"
    if value.layout != torch.strided:
        return f"a sparse tensor ({value.layout})"
    return None


def read_keras(path: Path) -> dict[str, Tensor]:
    """Returns the arrays of an HDF5 file by their names in Keras.

    Raises:
        UserError: if h5py is not installed or cannot read the file.
    """
    try:
        import h5py  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise UserError(
            f"{path}: is an HDF5 file of Keras; install h5py to read the weights of idealo's "
            "networks (pip install srtoolbox[keras])"
        ) from None
    arrays: dict[str, Tensor] = {}

    def keep(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.dtype.kind == "f":
            arrays[name] = torch.from_numpy(item[()])

    try:
        with h5py.File(path, "r") as file:
            file.visititems(keep)
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        raise UserError(f"{path}: h5py cannot read it ({error})") from None
    return arrays


def _is_cut_off(path: Path, head: bytes, error: Exception) -> bool:
    if head.startswith(b"PK\x03\x04"):  # the table of contents of an archive is at its end
        return not zipfile.is_zipfile(path)
    if head.startswith(_LEGACY_HEAD):
        return isinstance(error, EOFError | IndexError) or "unexpected EOF" in str(error)
    if is_safetensors(head):
        return path.stat().st_size < _promised_size(path)
    return False


def _promised_size(path: Path) -> int:
    """Returns the size of a safetensors file by its header; a too large one if that is cut off."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        try:
            header = json.loads(file.read(length))
            ends = [entry["data_offsets"][1] for key, entry in header.items() if key[:2] != "__"]
        except (
            *(ValueError, LookupError, TypeError, OverflowError),
            *(AttributeError, MemoryError, RecursionError),
        ):
            ends = []
    return 8 + length + max(ends, default=0)
