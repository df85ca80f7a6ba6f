"""W&B's client: what it keeps to itself, whether it has a key, and whether it may send anything."""

import os

from neuro_ssl.errors import InputError


def quieten() -> None:
    """Have the client keep its chatter off the terminal, and its own errors off W&B's servers; before its first use.

    Those are sent with their message and stack, which hold paths, whether or not a run is offline. Its errors are
    exceptions here all the same. Either variable may be set otherwise in the environment.
    """
    os.environ.setdefault("WANDB_SILENT", "true")
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")


def has_key() -> bool:
    """Whether the client has one; asks nothing, neither a person nor a server.

    Raises:
        InputError: what it has can't be a key.
    """
    quieten()
    import wandb

    try:
        return bool(wandb.login(prompt=False, verify=False))
    except wandb.errors.AuthenticationError as error:
        raise InputError(f"W&B: {error} Put it right (wandb login --relogin), or take it away") from error


def told_offline() -> str | None:
    """What the environment says, if that is to send nothing: `WANDB_MODE=offline` and the like."""
    mode = os.environ.get("WANDB_MODE", "online")
    return None if mode == "online" else f"WANDB_MODE={mode}"
