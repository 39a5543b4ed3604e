"""A training that was interrupted, on disk: one safetensors file with JSON in its header.

Tensors and JSON values, nothing that can run; written aside and renamed, so that a file is whole or
absent. It holds weights learnt from the rows: keep it as closely as the rows.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from manikin.errors import IntegrityError, OutputError

__all__ = ["read", "trusting_nothing", "write"]

FORMAT = "manikin-training-1"


def write(path: Path, arrays: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
    """Write a checkpoint, all of it or nothing. Raises OutputError when it cannot."""
    from safetensors.torch import save_file

    header = {"format": FORMAT, "values": json.dumps(values, sort_keys=True)}
    aside = ""
    try:
        handle, aside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(handle)
        kept = {name: t.detach().cpu().contiguous().clone() for name, t in arrays.items()}
        save_file(kept, aside, metadata=header)
        os.chmod(aside, 0o600)
        os.replace(aside, path)
    except OSError as error:
        raise OutputError(
            f"the checkpoint '{path.name}' cannot be written ({error.strerror})",
            "a folder that exists, with room, in which you may write",
            "choose another path",
        ) from error
    finally:
        if aside and os.path.exists(aside):
            os.unlink(aside)


def read(path: Path, where: torch.device) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return a checkpoint's tensors and values. Raises IntegrityError when it is none."""
    from safetensors import safe_open

    with trusting_nothing():
        with safe_open(path, framework="pt", device="cpu") as file:
            header = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}
        if header.get("format") != FORMAT:
            raise ValueError("format")
        values = json.loads(header["values"])
        if not isinstance(values, dict):
            raise TypeError("values")
        # the optimiser counts its steps on the CPU unless told otherwise: tensors go where used
        return {name: t.to(where) for name, t in arrays.items()}, values


@contextlib.contextmanager
def trusting_nothing() -> Iterator[None]:
    """Turn whatever a damaged checkpoint breaks into an IntegrityError."""
    try:
        yield
    except IntegrityError:
        raise
    except Exception as error:  # the library's own error class is not public in every version
        raise IntegrityError(
            "the checkpoint cannot be trusted: its parts do not make a training",
            "a file exactly as Manikin wrote it",
            "remove it to begin again",
        ) from error
