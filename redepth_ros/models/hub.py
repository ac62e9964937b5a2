"""Where the files of a model lie: a folder, or the hub and its cache."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

from redepth_ros.core.errors import ModelError

__all__ = ["find_folder", "first_line", "read_json"]

EMBEDDED = ("model", "prior")
"""Options that also take 'tiny'."""


def find_folder(name: str, files: tuple[str, ...], *, option: str, needs: str) -> Path:
    """The folder of a model: a given one, or a hub model's in the cache, downloaded if need be.

    Args:
        name: a folder, or a hub id such as organisation/name.
        files: patterns of the files to download.
        option: what the name was given as, for messages: "model", "prior", "coder" or "captioner".
        needs: what such a folder holds, for messages.

    Raises:
        ModelError: there is no such folder, or it can't be downloaded.
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
    """The cached folder of a hub model, downloaded where not all of it is there yet."""
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
        raise ModelError(f"{option} {name!r} is no valid hub id: {first_line(error)}") from error
    except OSError:  # nothing of this model is in the cache
        pass
    try:
        return Path(snapshot_download(name, allow_patterns=patterns))
    except GatedRepoError as error:
        raise ModelError(
            f"{option} {name!r} is given only to those who accept its terms: do so on the hub, then log in "
            "with: hf auth login"
        ) from error
    except RepositoryNotFoundError as error:
        raise ModelError(f"the hub has no {option} {name!r} (or it is private): check its name") from error
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EROFS, errno.EACCES):
            return _or_unreachable(cached, name, option, error)
        raise ModelError(
            f"{option} {name!r} can't be written to the cache, {constants.HF_HUB_CACHE}: {error}; make room "
            "there, or name another folder in the environment variable HF_HUB_CACHE"
        ) from error
    except Exception as error:  # the hub's client passes on what its HTTP library raises
        return _or_unreachable(cached, name, option, error)


def _or_unreachable(cached: Path | None, name: str, option: str, error: Exception) -> Path:
    """What is cached of a model that can't be downloaded: a prior without a text encoder lacks no more."""
    from huggingface_hub import constants

    if cached:
        return cached
    raise ModelError(
        f"{option} {name!r} is not in the cache ({constants.HF_HUB_CACHE}), and the hub can't be reached. "
        f"Connect to a network once, or copy the model to a folder and give that as {option}"
        + (", or use the embedded 'tiny' (for trying out, not for robots)" if option in EMBEDDED else "")
    ) from error


def read_json(name: str, path: Path) -> dict[str, Any]:
    """A JSON object of a model's folder, {} where there is no such file."""
    if not path.is_file():
        return {}
    try:
        parsed = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{name!r}: {path} can't be read: {error}; download it again") from error
    if not isinstance(parsed, dict):
        raise ModelError(f"{name!r}: {path} holds no JSON object; download it again")
    return parsed


def first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
