"""What is made when the site is built: pages of the studies' READMEs and of CONTRIBUTING, and each command's --help.

Pages lie in `docs/generated`, which git ignores. A link to a file that has a page leads to that page; any other file of
the repository is offered to download.
"""

import contextlib
import importlib
import io
import os
import re
import sys
from pathlib import Path

from neuro_ssl.__main__ import COMMANDS

_LINK = re.compile(r"(?<=\]\()(?!https?:|mailto:|#|/)([^)\s#]+)(#[^)\s]*)?(?=\))")


def make_pages(repository: Path) -> None:
    """Write `docs/generated`: a page changes on disk only if its text does, so that a second build is short."""
    made = repository / "docs" / "generated"
    texts = {
        page: relinked(file.read_text(encoding="utf-8"), file, page, repository)
        for file, page in _copied(repository).items()
    }
    texts[made / "studies.md"] = studies_page(repository)
    for page in set(made.rglob("*.md")) - set(texts):
        page.unlink()
    for page, text in texts.items():
        page.parent.mkdir(parents=True, exist_ok=True)
        if not page.exists() or page.read_text(encoding="utf-8") != text:
            page.write_text(text, encoding="utf-8")


def relinked(text: str, file: Path, page: Path, repository: Path) -> str:
    """A page's text with its links as the site needs them.

    Args:
        text: in Markdown.
        file: from where its relative links count.
        page: where the text will lie.
        repository: the folder that holds `docs`.
    """
    pages = _copied(repository)

    def target(match: re.Match[str]) -> str:
        path = Path(os.path.normpath(file.parent / match[1]))
        if path == repository / "README.md":
            path = repository / "docs" / "index.md"
        return os.path.relpath(pages.get(path, path), page.parent) + (match[2] or "")

    return _LINK.sub(target, text)


def studies_page(repository: Path) -> str:
    """The list of the studies."""
    names = sorted(file.parent.name for file in repository.glob("experiments/*/README.md"))
    listed = "\n".join(f"studies/{name}" for name in names)
    about = "A question each, commands, results, and what they mean: the folders of `experiments/`."
    return f"# Studies\n\n{about}\n\n```{{toctree}}\n:maxdepth: 1\n\n{listed}\n```\n"


def helps(repository: Path) -> str:
    """A section for each command, for the end of their page: what `--help` says, and its file in `conf`.

    The file stands for the values that `--help` lists, since it says what each is.
    """
    parts = []
    for name in COMMANDS:
        said, values, _ = help_of(name).partition("\nValues, changed as key=value")
        parts += [
            f"## {name}",
            *(map(_as_page, said.strip().split("\n\n")) if values else [f"```text\n{said.strip()}\n```"]),
        ]
        if values:
            text = (repository / "conf" / f"{name}.yaml").read_text(encoding="utf-8")
            keys = text.partition("hydra:\n")[0].strip()
            parts += [f"`conf/{name}.yaml`:", f"```yaml\n{keys}\n```"]
    return "\n" + "\n\n".join(parts) + "\n"


def _as_page(paragraph: str) -> str:
    """A paragraph of a help text: commands are indented there, and choices have a line each."""
    lines = paragraph.splitlines()
    if lines[0].startswith("  "):
        return "```bash\n" + "\n".join(line.removeprefix("  ") for line in lines) + "\n```"
    if all(re.match(r"[\w/]+: ", line) for line in lines):
        return "\n".join("- `{}`: {}".format(*line.split(": ", 1)) for line in lines)
    return " ".join(lines)


def help_of(name: str, *words: str) -> str:
    """What `python -m neuro_ssl.<name> … --help` prints."""
    module = importlib.import_module(f"neuro_ssl.{name}")
    shown, arguments, width = io.StringIO(), sys.argv, os.environ.get("COLUMNS")
    sys.argv, os.environ["COLUMNS"] = [f"{module.__file__}", *words, "--help"], "100"
    try:
        with contextlib.redirect_stdout(shown), contextlib.suppress(SystemExit):
            module.main()
    finally:
        sys.argv = arguments
        os.environ.pop("COLUMNS") if width is None else os.environ.__setitem__("COLUMNS", width)
    return shown.getvalue()


def _copied(repository: Path) -> dict[Path, Path]:
    """Files of the repository that become pages, and which."""
    made = repository / "docs" / "generated"
    pages = {file: made / "studies" / f"{file.parent.name}.md" for file in repository.glob("experiments/*/README.md")}
    return pages | {
        file: made / f"{file.stem.lower()}.md"
        for file in (repository / "CONTRIBUTING.md", repository / "CHANGELOG.md")
        if file.exists()
    }
