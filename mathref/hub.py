"""Models by their name on the Hugging Face hub: `--model owner/name`, or owner/name@revision.

Paper: none (PaLM 2's weights are closed); this is a short way to any open model that takes its place.
Choices [P]: package huggingface_hub does the work, with its own cache, token and offline switch (HF_HOME,
HF_TOKEN, HF_HUB_OFFLINE), and is only needed for such a name. Fetched is what mathref reads: JSON, tokenizer,
safetensors; no pickle, no code. A family that mathref does not compute is refused before its weights are
fetched. A repository may be an adapter's (lora.py), whose base is then fetched as well. A folder on this
machine wins, and so does a path into one, so that no mistyped path becomes a stranger's model.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from pathlib import Path

ID = re.compile(r"(?P<owner>\w[\w.-]*)/(?P<name>\w[\w.-]*)(@(?P<revision>\w[\w./-]*))?", re.ASCII)
RUNS = "runs"  # where train.py writes: a run that is not there yet is not looked for on the hub
CONFIG = "config.json"
TOKENIZER = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json")
TOKENIZER += ("added_tokens.json", "chat_template.jinja")
FILES = (CONFIG, "generation_config.json", *TOKENIZER, "model.safetensors.index.json")
WEIGHTS = "model*.safetensors"  # whole or in shards; copies under other names are left where they are


def is_id(name: str) -> bool:
    """Whether `name` can only mean a model on the hub: owner/name, and no folder here is called either."""
    found = ID.fullmatch(name)
    return bool(found) and found["owner"] != RUNS and not any(map(_is_folder, (name, found["owner"])))


def _is_folder(name: str) -> bool:
    return Path(name).is_dir()


def fetch(name: str) -> Path:
    """The folder in the hub's cache with the model owner/name[@revision], fetched where it is not there yet.

    Raises ModuleNotFoundError without huggingface_hub, FileNotFoundError for what the hub does not have or
    what cannot be reached, ValueError for a model that is gated or not computed, OSError for a transfer that
    breaks off.
    """
    from mathref import lora
    from mathref.weights import load_config

    repository, _, revision = name.partition("@")
    folder = _snapshot(name, repository, revision or None, [CONFIG, lora.CONFIG])
    load_config(folder)
    wanted = [lora.WEIGHTS] if (folder / lora.CONFIG).is_file() else [*FILES, WEIGHTS]
    folder = _snapshot(name, repository, folder.name, wanted)  # of the very same commit
    if not any(folder.glob(wanted[-1])):
        raise FileNotFoundError(
            f"{name}: has no {wanted[-1]} on the hub, and weights of other kinds are not read; or the hub "
            "cannot be reached, and the cache holds a part of the model only"
        )
    return folder


@functools.cache
def fetch_once(name: str) -> Path:
    """`fetch`, which asks the hub anew, for what one command looks up again and again."""
    return fetch(name)


def pinned(name: str) -> str:
    """`name` with the commit that it means today, so that run.json says which weights a run started from."""
    return f"{name.partition('@')[0]}@{fetch(name).name}" if is_id(name) else name


def id_of(folder: Path) -> tuple[str, str] | None:
    """(owner/name, commit) of the cache's folder models--OWNER--NAME/snapshots/COMMIT, None of any other."""
    kind, *names = folder.parent.parent.name.split("--")
    cached = folder.parent.name == "snapshots" and kind == "models" and len(names) == 2
    return ("/".join(names), folder.name) if cached else None


def name_of(folder: Path) -> str:
    """What a model folder is called in file names: the hub's name, where the folder's own is a commit."""
    known = id_of(folder)
    return known[0].partition("/")[2] if known else folder.name


def _snapshot(name: str, repository: str, revision: str | None, files: Sequence[str]) -> Path:
    """The cache's folder of one commit, with those of `files` that the repository has."""
    try:
        from huggingface_hub import errors, snapshot_download
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            f"{name}: is no folder here, and to fetch it from the hub needs a package: "
            "pip install huggingface_hub"
        ) from None
    try:
        return Path(snapshot_download(repository, revision=revision, allow_patterns=list(files)))
    except errors.GatedRepoError:
        raise ValueError(
            f"{name}: is gated; accept its terms on its page of the hub, and set HF_TOKEN to a token of "
            "that account (or `hf auth login`)"
        ) from None
    except errors.RepositoryNotFoundError:
        raise FileNotFoundError(
            f"{name}: is no folder here, and the hub has no such model (one that is private needs HF_TOKEN)"
        ) from None
    except errors.RevisionNotFoundError:
        raise FileNotFoundError(f"{name}: the hub has no revision '{revision}' of {repository}") from None
    except errors.LocalEntryNotFoundError:
        raise FileNotFoundError(
            f"{name}: is no folder here, is not in the cache, and the hub cannot be reached (no network, or "
            "HF_HUB_OFFLINE is set)"
        ) from None
    except errors.HFValidationError as error:
        raise ValueError(f"{name}: is no folder here, and no name of a model on the hub ({error})") from None
    except Exception as error:  # the package's transports raise errors of several HTTP libraries
        first = str(error).strip().split("\n")[0] or type(error).__name__
        raise OSError(f"{name}: the hub did not deliver it ({first}); the same command goes on") from error
