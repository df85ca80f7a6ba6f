"""Files that appear whole or not at all, one plain message where they cannot be written, and where `conf` lies."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from neuro_ssl.errors import InputError

_PACKAGED = Path(__file__).parent / "conf"  # put there by the wheel; an editable install reads the source tree
CONF_DIR = str(_PACKAGED if _PACKAGED.is_dir() else Path(__file__).parent.parent / "conf")
LEFTOVER = re.compile(r"\.\d+\..+")  # what a killed process may leave of `appearing`


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


def sync_folder(folder: Path) -> None:
    """Have a folder's names on disk, after which no crash of the machine brings back those from before a renaming.

    Raises:
        InputError: the disk does not take them.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise InputError(f"cannot write {folder}: {error.strerror}; look after the disk") from error


@contextmanager
def held(folder: Path, *, work: str, elsewhere: str) -> Iterator[None]:
    """Hold a folder's lock, or refuse at once if another process has it; the system frees it when a process dies.

    Args:
        folder: made if need be.
        work: what the other process does, for the message.
        elsewhere: the remedy where the folder cannot be written.

    Raises:
        InputError: it is held, or cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock").acquire(timeout=0)
    except Timeout as error:
        raise InputError(f"{folder}: another process {work}; wait for it or stop it") from error
    except OSError as error:
        raise InputError(f"cannot write to {folder} ({error.strerror}); {elsewhere}") from error
    with lock:
        yield


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder's lock, once no other process has it; the system frees it when a process dies.

    Raises:
        InputError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock").acquire()
    except OSError as error:
        raise InputError(f"cannot write to {folder} ({error.strerror}); choose another place") from error
    with lock:
        yield
