"""The key of an account at Weights & Biases."""

import os

from neuro_ssl.errors import InputError


def has_key() -> bool:
    """Whether W&B's client has one; asks nothing, neither a person nor a server.

    Raises:
        InputError: what it has can't be a key.
    """
    os.environ.setdefault("WANDB_SILENT", "true")  # its chatter; its errors are exceptions
    import wandb

    try:
        return bool(wandb.login(prompt=False, verify=False))
    except wandb.errors.AuthenticationError as error:
        raise InputError(f"W&B: {error} Put it right (wandb login --relogin), or take it away") from error


def told_offline() -> str | None:
    """What the environment says, if that is to send nothing: `WANDB_MODE=offline` and the like."""
    mode = os.environ.get("WANDB_MODE", "online")
    return None if mode == "online" else f"WANDB_MODE={mode}"
