"""What may leave the machine: of the configuration no place on it, of people no id.

Data-use agreements commonly forbid that ids leave. Where a table does leave, ids are keyed hashes (HMAC-SHA-256): equal
over all runs of a folder, so that tables join, and of no use to who knows a cohort's ids but not the key.
"""

import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from neuro_ssl.errors import InputError
from neuro_ssl.files import locked

PLACES = {"data_dir", "runs_dir", "features_dir", "stores_dir", "root", "table", "tables", "clinical", "store", "path"}
KEY_FILE = ".tracking_key"  # in the folder of runs
DIGITS = 16  # 64 bits: among a million ids, two of one hash with a chance of 3 in 100 million

# From /a, C:\a, ~/a, ./a, ../a, file:… to the end, since names of folders may hold spaces and commas; not hf://org/name,
# mg/dl or sub-{MRID}_T1.nii.gz.
_PATH = re.compile(r"(?<![\w:/.])(?:/\S|~[\w-]*/|\.{1,2}/|[A-Za-z]:\\|\\\\|file:).*", re.DOTALL)


def without_places(node: Any) -> Any:
    """A configuration or record without paths: none of its settings names people.

    A key that names a place is left out; in any other text, `[path]` stands for a path and what follows it.

    Args:
        node: plain containers, whose keys may be of any depth.
    """
    if isinstance(node, Mapping):
        kept = {key: value for key, value in node.items() if key not in PLACES}
        return {_PATH.sub("[path]", str(key)): without_places(value) for key, value in kept.items()}
    if isinstance(node, list | tuple):
        return [without_places(value) for value in node]
    return _PATH.sub("[path]", str(node)) if isinstance(node, str | Path) else node


class KeyedHash:
    """Stands for ids where they leave the machine.

    Args:
        runs_dir: the folder of runs, which keeps the key, readable by its owner alone; made when it is first needed.
            Whoever is to join tables of two folders copies the file.

    Raises:
        InputError: the key cannot be read or written, or others may read it.
    """

    def __init__(self, runs_dir: Path) -> None:
        file = runs_dir / KEY_FILE
        try:
            with locked(runs_dir):  # points of a sweep may need it at once
                if not file.exists():
                    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
                        stream.write(secrets.token_hex(32))
            others = file.stat().st_mode & 0o077
            self._key = bytes.fromhex(file.read_text().strip())
        except (OSError, ValueError) as error:
            raise InputError(f"{file}: no key for hashed ids ({error}); see to it, or set logger.ids=local") from error
        if others or len(self._key) < 16:
            raise InputError(f"{file}: a key that others may read, or too short a one, hides nothing; chmod 600 {file}")

    def __call__(self, identifier: str) -> str:
        """Hexadecimal digits."""
        return hmac.new(self._key, identifier.encode(), hashlib.sha256).hexdigest()[:DIGITS]
