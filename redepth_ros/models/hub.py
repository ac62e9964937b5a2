"""Model files: in a folder, or on the hub and in its cache."""

from __future__ import annotations

import errno
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from redepth_ros.core.errors import ModelError

__all__ = ["check_complete", "find_folder", "first_line", "loading", "read_json"]

EMBEDDED = ("model", "prior")
"""Options that also accept 'tiny'."""


_one_at_a_time = threading.RLock()


@contextmanager
def loading() -> Iterator[None]:
    """Let one thread at a time import transformers and load weights, without progress bars.

    transformers imports its classes when they are first asked for, and changes torch's default dtype while
    it loads: with two threads, one of them fails. Download before, so that nobody waits for it.
    """
    with _one_at_a_time:
        from transformers.utils import logging

        logging.disable_progress_bar()
        yield


def find_folder(name: str, files: tuple[str, ...], *, option: str, needs: str) -> Path:
    """Return the folder of a model: a local one, or that of a hub model, downloaded if needed.

    Args:
        name: a folder, or a hub id such as organisation/name.
        files: patterns of the files to download.
        option: that the name was given for, in messages: "model", "prior", "vae" or "captioner".
        needs: contents of such a folder, in messages.

    Raises:
        ModelError: there is no such folder, or the download failed.
    """
    path = Path(name).expanduser()
    if name and path.is_dir():
        return path
    if not name or path.exists() or name[0] in "/.~" or name.count("/") != 1:
        raise ModelError(
            f"{option} {name!r} is not a folder; name a folder with {needs}, or a hub model "
            "(organisation/name)" + (", or 'tiny'" if option in EMBEDDED else "")
        )
    return _download(name, files, option)


def _download(name: str, files: tuple[str, ...], option: str) -> Path:
    """Return the cached folder of a hub model; download what is missing."""
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError

    patterns = list(files)
    cached: Path | None = None
    try:
        folder = Path(snapshot_download(name, allow_patterns=patterns, local_files_only=True))
        if any(folder.glob("**/*.safetensors")):
            cached = folder
            if all("*" in one or (folder / one).is_file() for one in files):
                return folder
    except HFValidationError as error:
        raise ModelError(f"{option} {name!r} is not a valid hub id: {first_line(error)}") from error
    except OSError:  # nothing of this model is in the cache
        pass
    try:
        return Path(snapshot_download(name, allow_patterns=patterns))
    except GatedRepoError as error:
        raise ModelError(
            f"{option} {name!r} is gated: accept its terms on the hub, then log in with: hf auth login"
        ) from error
    except RepositoryNotFoundError as error:
        raise ModelError(f"the hub has no {option} {name!r}, or it is private; check the name") from error
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EROFS, errno.EACCES):
            return _or_unreachable(cached, name, option, error)
        raise ModelError(
            f"{option} {name!r} can't be written to the cache, {constants.HF_HUB_CACHE}: {error}; make room "
            "there, or name another folder in the environment variable HF_HUB_CACHE"
        ) from error
    except Exception as error:  # the hub's client raises errors of its HTTP library
        return _or_unreachable(cached, name, option, error)


def _or_unreachable(cached: Path | None, name: str, option: str, error: Exception) -> Path:
    """Return the cached part of a model that can't be downloaded: a prior may have no text encoder."""
    from huggingface_hub import constants

    if cached:
        return cached
    raise ModelError(
        f"{option} {name!r} is not in the cache ({constants.HF_HUB_CACHE}) and the hub can't be reached. "
        f"Connect to a network once, or copy the model to a folder and set {option} to it"
        + (", or use the embedded 'tiny' (for trying out, not for robots)" if option in EMBEDDED else "")
    ) from error


def read_json(name: str, path: Path) -> dict[str, Any]:
    """Read a JSON object of a model's folder; {} if there is no such file."""
    if not path.is_file():
        return {}
    try:
        parsed = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{name!r}: {path} can't be read: {error}; download it again") from error
    if not isinstance(parsed, dict):
        raise ModelError(f"{name!r}: {path} is not a JSON object; download it again")
    return parsed


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, without its full stop."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def check_complete(name: str, loading_info: dict[str, Any]) -> None:
    """Raise ModelError if a network was loaded without some of its weights, which are then random.

    Args:
        name: of the network in the message, for example "model 'tiny'".
        loading_info: of `from_pretrained(..., output_loading_info=True)`.
    """
    if missing := sorted(loading_info["missing_keys"]):
        raise ModelError(
            f"{name} lacks {len(missing)} of its weights, for example {missing[0]}: its safetensors do not "
            "belong to its config.json; download it again"
        )
