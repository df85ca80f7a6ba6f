"""Files that appear whole or not at all, and one plain message where they cannot be written."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from neuro_ssl.errors import InputError


@contextmanager
def appearing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, in a folder that is made if need be; it takes its place once it is written.

    Nothing but the writing belongs inside: every `OSError` there is taken for one of writing.

    Raises:
        InputError: the file cannot be written; nothing of it stays, and an older one stays as it was.
    """
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(path)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else error
        raise InputError(
            f"cannot write {path}: {reason}; make room or get write access there, or choose another place"
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
