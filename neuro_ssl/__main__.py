"""`neuro-ssl COMMAND …`, which is `python -m neuro_ssl.COMMAND …`, and the list of the commands."""

import ast
import difflib
import os
import sys
from pathlib import Path

from neuro_ssl import __doc__ as PURPOSE
from neuro_ssl import __version__

# Modules with a `main`, in the order in which a study needs them.
COMMANDS = (
    *("simulate", "preprocess", "quality", "store", "train", "rerun", "evaluate"),
    *("embed", "explain", "report", "dashboard", "weights", "benchmark"),
)


def main() -> None:
    """Become the command that the first word names, or say which there are.

    The process is replaced: what Lightning, joblib or a debugger then see is `python -m neuro_ssl.COMMAND`, with the
    current folder on the path, where encoders and transforms of users lie. Nothing here imports torch.
    """
    match sys.argv[1:]:
        case [] | ["-h" | "--help" | "help"]:
            print(usage())
        case ["--version"]:
            print(f"neuro_ssl {__version__}")
        case [command, *options] if command in COMMANDS:
            os.execv(sys.executable, [sys.executable, "-m", f"neuro_ssl.{command}", *options])
        case [word, *_]:
            close = difflib.get_close_matches(word, COMMANDS, n=1)
            hint = f"did you mean {close[0]}?" if close else f"first comes one of {', '.join(COMMANDS)}"
            print(f"error: {word} is no command of neuro-ssl; {hint}", file=sys.stderr)
            raise SystemExit(1)


def usage() -> str:
    """All commands, each with what its module says of itself."""
    lines = [f"  {command:<12}{_purpose(command)}" for command in COMMANDS]
    title = f"usage: neuro-ssl COMMAND [OPTION …]\n\n{PURPOSE}\n"
    return "\n".join([title, *lines, "\nneuro-ssl COMMAND --help says more; python -m neuro_ssl.COMMAND is the same."])


def _purpose(command: str) -> str:
    """The first line of its docstring, after the command itself; read, since importing it takes seconds."""
    source = Path(__file__).with_name(f"{command}.py").read_text(encoding="utf-8")
    docstring = ast.get_docstring(ast.parse(source)) or ""
    return docstring.partition("\n")[0].partition(": ")[2].rstrip(".")


if __name__ == "__main__":
    main()
