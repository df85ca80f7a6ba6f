"""A main function as a command: configured by Hydra, with errors that a user can put right in one line."""

import errno
import os
import re
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import hydra
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from neuro_ssl.config import check_top_level, suggestion
from neuro_ssl.console import plain_warnings
from neuro_ssl.errors import InputError, Pruned
from neuro_ssl.faults import as_raised
from neuro_ssl.files import CONF_DIR
from neuro_ssl.launching import forget_sweep, sweep_folder, sweep_point, take_gpu
from neuro_ssl.memory import out_of_memory_told
from neuro_ssl.points import read_points
from neuro_ssl.processes import HEAD_START_S, join_tasks_of_submitit, launched_rank, say
from neuro_ssl.schemas import SCHEMAS

# Where the system refuses a file, and the program is not to blame.
_REFUSALS = {
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ESTALE),
    *(errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.EMFILE, errno.ENFILE),
}


def entry_point(
    name: str, after_sweep: Callable[[Path], None] | None = None
) -> Callable[[Callable[[Any], float | None]], Callable[[], None]]:
    """Make `main(cfg)` a command configured by `conf/<name>.yaml`.

    What a user can put right becomes one message on stderr and exit status 1 (with `debug=true`: a traceback): an
    `InputError`, a configuration that doesn't compose, a file that the system refuses. Any other exception is a defect
    of ours and keeps its traceback. A point of a sweep that fails doesn't end the sweep; its end is exit status 1.

    Args:
        name: of the command.
        after_sweep: shows what became of a sweep, given its folder: at the end, whether or not all points got there.

    Returns:
        A decorator of `main`, which may return a score for Hydra's sweepers; of a point that failed they get None.
    """
    known = [field.name for field in fields(SCHEMAS[name])]

    def decorate(main: Callable[[Any], float | None]) -> Callable[[], None]:
        composed = False

        def run(cfg: DictConfig) -> float | None:
            nonlocal composed
            composed = True
            join_tasks_of_submitit()
            point = sweep_point()
            try:
                plain_warnings()
                if point:
                    point.note(overrides=point.overrides, status="running", reason=None)
                check_top_level(cfg, known)
                take_gpu(cfg)
                with out_of_memory_told(lambda: _less_at_once(cfg)):
                    score = main(cfg)
                if point:
                    point.note(status="finished")
                return score
            except Pruned as stop:
                say(str(stop))
                if point:
                    point.note(status="pruned")
                return None
            except Exception as error:
                told = not cfg.debug and (isinstance(error, InputError | OmegaConfBaseException) or _refused(error))
                if told:
                    _tell(error)
                elif point:  # it may run in another process, out of which no traceback comes
                    traceback.print_exc()
                if point:
                    point.note(status="failed", reason=_explained(error))
                    return None
                if told:
                    raise SystemExit(1) from None
                raise

        # Hydra derives the task's name from the function's module; keep main's identity.
        run.__module__, run.__name__, run.__doc__ = main.__module__, main.__name__, main.__doc__
        configured = hydra.main(version_base="1.3", config_path=CONF_DIR, config_name=name)(run)

        def command() -> None:
            nonlocal composed
            composed = False
            os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # exceptions come here, whole, and not to Hydra's printer
            forget_sweep()
            try:
                try:
                    configured()
                except InputError:  # points keep theirs: the sweep has been refused, and what is there is of another
                    forget_sweep()
                    raise
                finally:
                    if (sweep := sweep_folder()) and after_sweep:
                        after_sweep(sweep)
                if sweep:
                    _tell_failures(sweep, shown=bool(after_sweep))
            except Exception as error:
                ours = composed and not isinstance(error, HydraException | InputError)
                if ours or "debug=true" in map(str.lower, sys.argv):
                    raise
                _tell(error)
                raise SystemExit(1) from None

        return command

    return decorate


def _tell(error: Exception) -> None:
    """Show an error; what all processes of a run meet alike, the first one alone.

    It ends with it, whereupon its launcher ends the others, which wait for that; else they have met something else.
    """
    if rank := launched_rank():
        time.sleep(HEAD_START_S)
        print(f"error in process {rank}: {_explained(error)}", file=sys.stderr)
    else:
        print(f"error: {_explained(error)}", file=sys.stderr)


def _tell_failures(sweep: Path, shown: bool) -> None:
    """End with exit status 1 if a point failed; say which, unless a table has shown it."""
    points = read_points(sweep)
    failed = [point for point in points if point.status == "failed"]
    for point in [] if shown else failed:
        name = " ".join(point.overrides) or str(point.number)
        print(
            f"error: a point of the sweep failed, {name}: {(point.reason or '').partition(chr(10))[0]}", file=sys.stderr
        )
    if shown and failed:
        print(
            f"error: {len(failed)} of {len(points)} points of the sweep failed, see above; the same command tries them "
            "again, and them alone",
            file=sys.stderr,
        )
    if failed:
        raise SystemExit(1)


def _less_at_once(cfg: DictConfig) -> str:
    batch_size = f"; batch_size is {cfg.batch_size}, a smaller one needs less" if "batch_size" in cfg else ""
    return f"out of memory{batch_size}; with debug=true, a traceback says where"


def _refused(error: Exception) -> bool:
    return isinstance(error, OSError) and error.errno in _REFUSALS


def _explained(error: Exception) -> str:
    """What to tell the user; of Hydra's and OmegaConf's paragraphs, what is not meant for programmers, in one line."""
    if isinstance(error, InputError):
        return as_raised(error)
    if isinstance(error, OSError) and error.errno in _REFUSALS:
        files = " → ".join(str(file) for file in (error.filename, error.filename2) if file)
        return (
            f"{files or 'a file'}: {os.strerror(error.errno)}; make room or get access there, or choose another place"
        )
    if isinstance(error, OverrideParseException):
        problem = str(error).partition("\nSee ")[0].replace("\n", "; ")
        return f"{error.override}: {problem}; a value with spaces, accents or signs needs quotes: 'key=\"value\"'"
    origin = error.__cause__ or error.__context__ or error
    text = str(error) if origin is error else f"{error}\n{origin}"
    if isinstance(origin, ConfigAttributeError | ConfigKeyError) and isinstance(origin.parent_node, DictConfig):
        known = [str(key) for key in origin.parent_node if key != "hydra"]
        file = re.match(r"In '.+?': ", text)
        above = origin.parent_node._get_parent()
        if isinstance(above, DictConfig) and origin.key in above:
            hint = f"{above._get_full_key(origin.key)} is one"
        else:
            hint = suggestion(str(origin.key), known)
        return f"{file[0] if file else ''}{origin.full_key} is no key; {hint}"
    lines = dict.fromkeys(line.strip() for line in text.partition("Config search path:")[0].splitlines())
    kept = (line for line in lines if line and not re.match(r"(object|reference)_type=|See |To append ", line))
    return "; ".join(kept).replace(":; ", ": ")
