"""Explains why a file could not be read as weights, and what to do about it."""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path

_LEGACY_HEAD = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # of torch's files before version 1.6
_OTHER_FILES = {  # how they begin
    rb"\Z": "is empty; download or copy it again",
    rb"version https://git-lfs": "is a Git LFS pointer, not the weight file itself; fetch the file "
    "by `git lfs pull` in its repository",
    rb"(?i)(\xef\xbb\xbf)?\s*<(!doctype|html|head|\?xml|!--)": "is a web page saved under the name "
    "of a weight file; download the file itself (the host may ask for a log-in or a confirmation "
    "first)",
    rb"\x89HDF": "is an HDF5 file of Keras; for the weights of idealo's networks see "
    "srtoolbox.archs.isr.load_keras",
}
_PICKLED_OBJECT = re.compile(r"GLOBAL (\S+)")  # in the error of torch's restricted unpickler


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
    found = _PICKLED_OBJECT.search(str(error))
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
        except (ValueError, LookupError, TypeError, OverflowError, MemoryError):
            ends = []
    return 8 + length + max(ends, default=0)
