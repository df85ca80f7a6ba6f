"""The one error that entry points show as a plain message: something the user can put right."""


class InputError(ValueError):
    """Wrong input or configuration. The message names the file, row or key, and the remedy."""


class Pruned(Exception):
    """A trial of a search that was stopped, since others did better by then. The message says where it stands."""
