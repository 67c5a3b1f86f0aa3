"""Tensors in a file: bytes that depend on the tensors alone, and none taken that has changed."""

import io
import zipfile
from pathlib import Path
from typing import Any

import torch

from normres.files import replacing


def save_tensors(value: Any, path: str | Path) -> None:
    """Save tensors so that the bytes depend on them alone: on values, types and strides.

    torch.save names the archive's root after the file it writes to; a buffer has no name.
    """
    buffer = io.BytesIO()
    torch.save(value, buffer)
    with replacing(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def read_tensors(content: bytes) -> Any:
    """What `save_tensors` wrote, on the CPU; raises where a single bit of it has changed.

    torch.load itself does not compare the archive's checksums.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        damaged = archive.testzip()
        if damaged is not None:
            raise ValueError(f"checksum of {damaged} differs")
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
