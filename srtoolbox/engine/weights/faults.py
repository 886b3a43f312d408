"""Says in words why a file could not be read as weights, and what to do about it."""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path

_LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # how torch's files began before 1.6
_WEB = re.compile(rb"^(\xef\xbb\xbf)?\s*<(!doctype|html|head|\?xml|!--)", re.IGNORECASE)
_OBJECT = re.compile(r"GLOBAL (\S+)")  # in the refusal of torch's restricted unpickler


def is_safetensors(head: bytes) -> bool:
    """Whether a file begins with the length of a JSON header (100 MB at most), then the header."""
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= 100_000_000


def explain_fault(path: Path, head: bytes, error: Exception) -> str:
    """The fault of a file that ``error`` was raised for.

    Args:
        path: The file.
        head: Its first bytes.
        error: What the reader of its format raised.
    """
    if not head:
        return "is empty; download or copy it again"
    if head.startswith(b"version https://git-lfs"):
        return (
            "not a weight file but a Git LFS pointer to one; fetch the content by `git lfs pull` "
            "in its repository"
        )
    if _WEB.match(head):
        return (
            "not a weight file but a web page saved under its name; download the file itself (a "
            "host may ask for a log-in or a confirmation first)"
        )
    if head.startswith(b"\x89HDF"):
        return (
            "is an HDF5 file, as Keras writes; for the weights of idealo's networks see "
            "srtoolbox.archs.isr.load_keras"
        )
    if _is_cut_off(path, head, error):
        return (
            f"incomplete: the file is cut off after {path.stat().st_size} bytes; download or copy "
            "it again"
        )
    found = _OBJECT.search(str(error))
    if found or head[:1] == b"\x80":
        what = f" ({found[1]})" if found else ""
        return (
            f"holds pickled Python objects{what}, as torch.save(net) of a whole module does, not "
            "just tensors; they are not loaded, since they could run any code: load it in the "
            "project that it is from and save net.state_dict()"
        )
    if "TorchScript" in str(error):
        return "is a TorchScript program, not a file of tensors; save its state_dict() instead"
    if zipfile.is_zipfile(path) and not any(
        name.endswith("/data.pkl") for name in zipfile.ZipFile(path).namelist()
    ):
        return "is a zip archive, not a file of tensors; unpack it first"
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return f"not a weight file of tensors ({reason})"


def _is_cut_off(path: Path, head: bytes, error: Exception) -> bool:
    if head.startswith(b"PK\x03\x04"):  # an archive's table of contents stands at its end
        return not zipfile.is_zipfile(path)
    if head.startswith(_LEGACY):
        return isinstance(error, EOFError | IndexError) or "unexpected EOF" in str(error)
    if is_safetensors(head):
        return path.stat().st_size < _promised_size(path)
    return False


def _promised_size(path: Path) -> int:
    """How large a safetensors file must be by its header; if that is cut, larger than it is."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        try:
            header = json.loads(file.read(length))
            ends = [entry["data_offsets"][1] for key, entry in header.items() if key[:2] != "__"]
        except (ValueError, LookupError, TypeError, OverflowError, MemoryError):
            ends = []
    return 8 + length + max(ends, default=0)
