"""The one error that entry points show as a plain message: something the user can put right."""


class InputError(ValueError):
    """Wrong input or configuration. The message names the file, row or key, and the remedy."""
