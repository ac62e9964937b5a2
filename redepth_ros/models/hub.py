"""Model folders: local ones, and those of the hub and its cache."""

from __future__ import annotations

import errno
import hashlib
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from redepth_ros.core.errors import ModelError
from redepth_ros.models.download import DownloadStalledError, Report, download
from redepth_ros.models.files import ModelFiles, names_in, read_json

if TYPE_CHECKING:
    from torch.nn import Module

__all__ = ["check_complete", "find_folder", "first_line", "loading", "network_hash"]

EMBEDDED = ("model", "prior")
"""Options that also accept 'tiny'."""

CHECKPOINTS = (".safetensors", ".ckpt", ".pt", ".pth", ".bin", ".gguf")
"""Endings of checkpoints in one file."""

CONVERSIONS = {
    "prior": 'convert it: python3 -c "from diffusers import StableDiffusionPipeline as P; '
    "P.from_single_file('{file}').save_pretrained('prior')\", then set prior to that folder",
    "vae": 'convert it: python3 -c "from diffusers import AutoencoderKL as A; '
    "A.from_single_file('{file}').save_pretrained('vae')\", then set vae to that folder",
    "model": "take the same network in the layout of transformers: a folder, or a hub name that ends in -hf, "
    "such as depth-anything/Depth-Anything-V2-Small-hf",
    "captioner": "take a BLIP model in the layout of transformers, such as "
    "Salesforce/blip-image-captioning-base",
}
"""What to do about a checkpoint in one file, by option."""

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


def find_folder(
    name: str, files: ModelFiles, *, option: str, needs: str, report: Report | None = None
) -> Path:
    """Return the folder of a model: a local one, or that of a hub model, downloaded if needed.

    Args:
        name: a folder, or a hub id such as organisation/name.
        files: of such a model.
        option: that the name was given for, in messages: "model", "prior", "vae" or "captioner".
        needs: contents of such a folder, in messages.
        report: called with the progress of a download; None draws progress bars.

    Raises:
        ModelError: there is no such folder, it lacks files, or the download failed.
    """
    path = Path(name).expanduser()
    if name and path.is_dir():
        names, index = names_in(path), read_json(name, path / files.index)
        if files.index in names:
            files.check(name, index)
        if missing := files.missing(names, index):
            raise ModelError(_explain_missing(name, str(path), missing, names, option, needs))
        return path
    if name and path.is_file() and path.suffix in CHECKPOINTS:
        conversion = CONVERSIONS[option].format(file=path)
        raise ModelError(f"{option} {name!r} is a checkpoint in one file; {conversion}")
    if not name or path.exists() or name[0] in "/.~" or name.count("/") != 1:
        raise ModelError(
            f"{option} {name!r} is not a folder; name a folder with {needs}, or a hub model "
            "(organisation/name)" + (", or 'tiny'" if option in EMBEDDED else "")
        )
    return _find_on_hub(name, files, option, needs, report)


def _find_on_hub(name: str, files: ModelFiles, option: str, needs: str, report: Report | None) -> Path:
    """Return the cached folder of a hub model; download what is missing."""
    from huggingface_hub import constants, try_to_load_from_cache
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError

    title = f"{option} {name!r}"
    index: dict[str, Any] = {}
    lacking: list[str] = []

    def choose_index(names: Collection[str]) -> list[str]:
        if files.index not in names:
            raise ModelError(_explain_missing(name, "the hub", [files.index], names, option, needs))
        return [files.index]

    def choose(names: Collection[str]) -> list[str]:
        if missing := files.missing(names, index):
            raise ModelError(_explain_missing(name, "the hub", missing, names, option, needs))
        return files.choose(names)

    try:
        cached = try_to_load_from_cache(name, files.index)
        folder = Path(cached).parent if isinstance(cached, str) else download(name, choose_index, report)
        index = read_json(name, folder / files.index)
        files.check(name, index)
        lacking = files.missing(names_in(folder), index)
        return download(name, choose, report) if lacking else folder
    except ModelError:
        raise
    except HFValidationError as error:
        raise ModelError(f"{title} is not a valid hub id: {first_line(error)}") from error
    except GatedRepoError as error:
        raise ModelError(
            f"{title} is gated: accept its terms on the hub, then log in with: hf auth login"
        ) from error
    except RepositoryNotFoundError as error:
        raise ModelError(f"the hub has no {title}, or it is private; check the name") from error
    except DownloadStalledError as error:
        reason = f"the hub, {constants.ENDPOINT}, {error}"
        raise ModelError(_unreachable(title, lacking, option, reason)) from error
    except Exception as error:  # the hub's client raises errors of its HTTP library
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EROFS, errno.EACCES):
            raise ModelError(
                f"{title} can't be written to the cache, {constants.HF_HUB_CACHE}: {error}; make room there, "
                "or name another folder in the environment variable HF_HUB_CACHE"
            ) from error
        reason = f"the hub can't be reached ({first_line(error)})"
        raise ModelError(_unreachable(title, lacking, option, reason)) from error


def _unreachable(title: str, lacking: list[str], option: str, reason: str) -> str:
    """Return the message for a model that can't be downloaded."""
    from huggingface_hub import constants

    state = "is not in the cache"
    if lacking:
        others = f" and {len(lacking) - 1} more files" if len(lacking) > 1 else ""
        state = f"lacks {lacking[0]}{others} in the cache"
    return (
        f"{title} {state}, {constants.HF_HUB_CACHE}, and {reason}. Connect to a network once, or copy the "
        f"model to a folder and set {option} to it"
        + (", or use the embedded 'tiny' (for trying out, not for robots)" if option in EMBEDDED else "")
    )


def _explain_missing(
    name: str, place: str, missing: list[str], names: Collection[str], option: str, needs: str
) -> str:
    """Return the message for a model that lacks files, with the remedy for files of another format."""
    title = f"{option} {name!r}"
    checkpoints = sorted(one for one in names if "/" not in one and Path(one).suffix in CHECKPOINTS)
    if checkpoints and missing[0] in ("model_index.json", "config.json"):
        conversion = CONVERSIONS[option].format(file=checkpoints[0])
        return f"{title} holds a checkpoint in one file, {checkpoints[0]}, instead of a folder; {conversion}"
    lacking = f"{title} lacks {', '.join(missing)} in {place}"
    pickled = sorted(one for one in names if one.endswith((".bin", ".ckpt", ".pth", ".msgpack", ".h5")))
    if pickled and all(one.endswith(".safetensors") for one in missing):
        return (
            f"{lacking}; it has its weights in another format only ({pickled[0]}): load them with diffusers "
            "or transformers and write safetensors by save_pretrained"
        )
    return f"{lacking}; its folder must contain {needs}, as save_pretrained writes them"


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


def network_hash(*networks: Module) -> str:
    """Return a hash of the weights of networks, the same on every device."""
    digest = hashlib.sha256()
    for network in networks:
        for name, value in sorted(network.state_dict().items()):
            digest.update(name.encode())
            digest.update(value.detach().float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]
