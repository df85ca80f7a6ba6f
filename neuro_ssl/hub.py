"""Folders of weights on the Hugging Face hub: `hf://org/name[@revision]` becomes a folder in the local cache.

Needs the extra `hub`. The cache is the one that all of Hugging Face's libraries share (`HF_HOME`). What is in it is
used without network, by a library that cannot reach the hub or is told not to (`HF_HUB_OFFLINE=1`). The folder is
called after the commit, so that a run's record says which it was; a branch may move, `@` and a commit doesn't.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from neuro_ssl.errors import InputError

SCHEME = "hf://"
_ADDRESS = re.compile(r"hf://(?P<name>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?")


def fetched(address: str, files: Sequence[str]) -> Path:
    """The folder in the cache that an address stands for, downloaded if it isn't there.

    Args:
        address: `hf://org/name`, and after an @ a branch, tag or commit.
        files: what to take of it; nothing else is downloaded.

    Raises:
        InputError: no such address, the package is missing, there is no such repository, or it is neither in the cache
            nor to be had from the hub.
    """
    match = _ADDRESS.fullmatch(address)
    if match is None:
        raise InputError(
            f"weights={address}: an address on the Hugging Face hub is hf://org/name or hf://org/name@revision"
        )
    try:
        from huggingface_hub import constants, snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
    except ModuleNotFoundError as error:
        raise InputError(f"weights={address}: {error}, which hf:// needs: pip install 'neuro_ssl[hub]'") from error
    name, revision = match["name"], match["revision"]
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=list(files)))
    except LocalEntryNotFoundError as error:
        why = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else "the hub cannot be reached"
        raise InputError(
            f"weights={address} is not in the cache {constants.HF_HUB_CACHE}, and {why}: download it where there is a "
            f"network (hf download {name}{f' --revision {revision}' if revision else ''}), and copy the cache"
        ) from error
    except (HfHubHTTPError, HFValidationError) as error:  # no such repository or revision, or it is private
        first = str(error).strip().partition("\n")[0]
        raise InputError(
            f"weights={address} cannot be had from the hub ({first}); check the name, or hf auth login"
        ) from error
