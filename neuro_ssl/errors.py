"""What entry points show as a plain message: something the user can put right, and a stop that was asked for."""

import signal


class InputError(ValueError):
    """Wrong input or configuration. The message names the file, row or key, and the remedy."""


class Interrupted(SystemExit):
    """A signal asked the command to stop, and it has: no failure, and nothing that a sweep goes on after.

    Args:
        message: how it stands, in one line; empty on processes that leave it to the first one, also to be the one that
            fails: launchers kill the others of a run when one does.
        signum: the signal; the exit status is 128 more, as shells have it.
    """

    def __init__(self, message: str, signum: int) -> None:
        super().__init__(128 + signum if message else 0)
        self.message, self.signum = message, signal.Signals(signum)


class Pruned(Exception):
    """A trial of a search that was stopped, since others did better by then. The message says where it stands."""
