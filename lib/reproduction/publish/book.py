"""From notebooks to a book: execute, stage, build.

A notebook runs in the interpreter that runs this module, whatever kernels are
installed elsewhere, and talks to it over sockets in a private folder, so that
any number of notebooks run side by side.  The book is built strictly, from a
staging tree in which every document has the path that it has in the repository.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from wheretolearn.suggestions import closest

BUILD = Path("_build")
"""Where everything that can be built again lies, relative to the repository root."""


class NotebookError(RuntimeError):
    """A notebook did not run to its end; the message names it and the cell."""


class BookError(RuntimeError):
    """The book has an error or a warning."""


def execute_notebook(
    source: Path | str, target: Path | str, parameters: Mapping[str, object] | None = None
) -> Path:
    """Execute a notebook with parameters."""
    import papermill  # noqa: PLC0415 - one second that building the book need not wait for

    source, target = Path(source).resolve(), Path(target).resolve()
    if not source.is_file():
        raise FileNotFoundError(f"no notebook {_shown(source)}")
    known = _parameters(source)
    for name in parameters or {}:
        if name not in known:
            raise ValueError(f"{source.name} has no parameter {name!r}{closest(name, known)}")
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_suffix(".failed.ipynb")
    with _private_kernel() as engine_options:
        try:
            papermill.execute_notebook(
                _literal(source),
                _literal(unfinished),
                dict(parameters or {}),
                cwd=str(source.parent),
                language="python",
                progress_bar=False,
                **engine_options,
            )
        except Exception as error:  # whatever it is, say where it happened
            where = _failed_cell(unfinished)
            raise NotebookError(
                f"{_shown(source)} failed{where}: {_last_line(error)}\n"
                f"executed so far: {_shown(unfinished)}"
            ) from error
    unfinished.replace(target)
    return target


def _literal(path: Path) -> str:
    """Return a path as papermill wants it, which fills in what stands in braces."""
    return str(path).replace("{", "{{").replace("}", "}}")


def _parameters(notebook: Path) -> list[str]:
    """Return the variables of the cell tagged ``parameters``."""
    import nbformat  # noqa: PLC0415
    from papermill.translators import PythonTranslator  # noqa: PLC0415

    try:
        cells = nbformat.read(notebook, as_version=4).cells
        tagged = [c for c in cells if "parameters" in c.metadata.get("tags", [])]
    except Exception as error:  # nbformat raises many types
        raise NotebookError(f"{_shown(notebook)} is no notebook ({_last_line(error)})") from error
    return [p.name for cell in tagged[:1] for p in PythonTranslator.inspect(cell)]


@contextmanager
def _private_kernel() -> Iterator[dict[str, object]]:
    """Yield papermill options for a kernel of this interpreter, with files of its own."""
    from jupyter_client import AsyncKernelManager  # noqa: PLC0415
    from jupyter_client.kernelspec import KernelSpec  # noqa: PLC0415
    from traitlets.config import Config  # noqa: PLC0415

    # the path of a socket has at most about 100 characters
    parent = tempfile.gettempdir() if len(tempfile.gettempdir()) < 60 else "/tmp"
    with tempfile.TemporaryDirectory(
        prefix="wtl-", dir=parent, ignore_cleanup_errors=True
    ) as folder:
        command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]

        class OwnKernel(AsyncKernelManager):  # whatever kernels are installed
            kernel_spec = KernelSpec(
                argv=[*command, "--HistoryManager.enabled=False"],
                language="python",
                env={"IPYTHONDIR": str(Path(folder, "ipython"))},
            )

        config = Config()
        config.KernelManager.transport = "ipc"
        config.KernelManager.ip = str(Path(folder, "socket"))
        config.KernelManager.connection_file = str(Path(folder, "connection.json"))
        yield {"kernel_name": "python3", "kernel_manager_class": OwnKernel, "config": config}


def _failed_cell(notebook: Path) -> str:
    """Return `` in cell 4 (`first line`)`` for the cell that stopped a notebook."""
    if not notebook.is_file():
        return ""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    ours = [c for c in cells if "papermill-error-cell-tag" not in c["metadata"].get("tags", [])]
    started = [n for n, c in enumerate(ours, start=1) if _papermill(c).get("start_time")]
    failed = [n for n, c in enumerate(ours, start=1) if _papermill(c).get("status") == "failed"]
    if not (started or failed):
        return ""
    number = (failed or started[-1:])[0]  # a kernel that died left no mark but its last start
    lines = [line for line in "".join(ours[number - 1]["source"]).splitlines() if line.strip()]
    return f" in cell {number} (`{(lines or [''])[0]}`)"


def _papermill(cell: dict) -> dict:
    return cell["metadata"].get("papermill", {})


def _last_line(error: Exception) -> str:
    """Return what happened, without the traceback that the notebook holds."""
    name, value = getattr(error, "ename", None), getattr(error, "evalue", "")
    if name:
        return f"{name}: {value}"
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[-1]}"


def _shown(path: Path) -> str:
    """Return a path as seen from the working directory, where it lies below it."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def build_book(
    notebooks: Path | str, out: Path | str = BUILD / "html", root: Path | str = "."
) -> Path:
    """Build the book strictly: every warning and every broken reference is an error."""
    root, out = Path(root).resolve(), Path(out).resolve()
    stage = root / BUILD / "stage"
    stage_book(notebooks, stage, root)
    built = root / BUILD / "book"
    shutil.rmtree(built, ignore_errors=True)
    # -W warnings are errors, -n so are references without a target, --keep-going names them all
    flags = ["-W", "-n", "--keep-going", "--quiet", "--path-output", str(built)]
    start = "import sys; from jupyter_book.cli.main import main; sys.exit(main())"
    command = [sys.executable, "-c", start, "build", str(stage), *flags]
    # from the root: the paths of local extensions in _config.yml are relative to it
    environment = {**os.environ, "PYTHONUTF8": "1"}
    done = subprocess.run(
        command, check=False, cwd=root, env=environment, capture_output=True, encoding="utf-8"
    )
    said = re.sub(r"\x1b\[[\d;]*m", "", done.stdout + done.stderr)  # without colours
    print(said, end="", flush=True)
    html = built / "_build" / "html"
    if done.returncode or not (html / "index.html").is_file():
        found = re.findall(r".*\b(?:WARNING|ERROR|CRITICAL): .*", said)
        first = f"; the first: {found[0]}" if found else ""
        raise BookError(
            f"the book has errors, see above (jupyter-book ended with {done.returncode}){first}"
        )
    shutil.rmtree(out, ignore_errors=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    html.replace(out)
    shutil.rmtree(built, ignore_errors=True)
    return out / "index.html"


def stage_book(notebooks: Path | str, stage: Path | str, root: Path | str = ".") -> None:
    """Lay out the sources of the book under the paths that they have in the repository."""
    stage, root = Path(stage), Path(root)
    shutil.rmtree(stage, ignore_errors=True)
    shutil.copytree(root / "book", stage / "book")
    for name in ("_config.yml", "_toc.yml"):
        shutil.copyfile(root / name, stage / name)
    (stage / "notebooks").mkdir()
    for notebook in sorted(Path(notebooks).glob("*.ipynb")):
        if not notebook.name.endswith(".failed.ipynb"):
            staged = _for_readers(json.loads(notebook.read_text(encoding="utf-8")))
            text = json.dumps(staged, ensure_ascii=False, indent=1)
            (stage / "notebooks" / notebook.name).write_text(text, encoding="utf-8")


def _for_readers(notebook: dict) -> dict:
    """Hide injected parameters and progress bars, and drop the paths of this machine."""
    notebook["metadata"].pop("papermill", None)
    for cell in notebook["cells"]:
        tags = cell["metadata"].get("tags", [])
        if "injected-parameters" in tags:
            cell["metadata"]["tags"] = [*tags, "remove-cell"]
        if "outputs" in cell:
            widget = "application/vnd.jupyter.widget-view+json"
            cell["outputs"] = [o for o in cell["outputs"] if widget not in o.get("data", {})]
    return notebook


def run_pipeline(arguments: Sequence[str]) -> int:
    """Run Snakemake on the Snakefile of the working directory, one at a time."""
    from filelock import FileLock, Timeout  # noqa: PLC0415
    from snakemake.cli import main as snakemake  # noqa: PLC0415

    BUILD.mkdir(exist_ok=True)
    _see_to_a_cache()
    # what is stale is decided by content, where the file has been seen before
    stale = ["--rerun-incomplete", "--rerun-triggers", "mtime", "input"]
    shown = ["--show-failed-logs", "--quiet", "host", "reason"]
    try:
        with FileLock(BUILD / "pipeline.lock", timeout=0):
            snakemake([*arguments, "--nolock", "--keep-going", *stale, *shown])
    except Timeout:
        print("another run of the pipeline is at work in this folder; wait for it", file=sys.stderr)
        return 1
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def _see_to_a_cache() -> None:
    """Give this process and its children a cache where they have no home to keep one in."""
    import platformdirs  # noqa: PLC0415

    cache = Path(platformdirs.user_cache_dir("snakemake"))
    try:
        cache.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=cache).close()
    except OSError:
        os.environ["XDG_CACHE_HOME"] = str((BUILD / "cache").resolve())


def _value(name: str, text: str) -> object:
    """Read the value of a notebook's parameter."""
    import yaml  # noqa: PLC0415

    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        what = " ".join(str(error).split())
        raise ValueError(f"the value of {name} is no YAML: {text[:80]!r} ({what})") from None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line ``python -m reproduction.publish``."""
    parser = argparse.ArgumentParser(prog="python -m reproduction.publish", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    notebook = commands.add_parser("notebook", help="execute a notebook")
    notebook.add_argument("source", type=Path)
    notebook.add_argument("target", type=Path)
    notebook.add_argument(
        "-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), dest="parameters"
    )
    book = commands.add_parser("book", help="build the book")
    book.add_argument("--notebooks", type=Path, default=BUILD / "notebooks" / "quick")
    book.add_argument("--out", type=Path, default=BUILD / "html")
    commands.add_parser("pipeline", help="run Snakemake; further arguments are passed on")
    options, rest = parser.parse_known_args(arguments)
    if options.command == "pipeline":
        return run_pipeline(rest)
    if rest:
        parser.error(f"unknown arguments: {' '.join(rest)}")
    try:
        if options.command == "notebook":
            values = {name: _value(name, text) for name, text in options.parameters}
            print(_shown(execute_notebook(options.source, options.target, values)))
        else:
            print(_shown(build_book(options.notebooks, options.out)))
    except (NotebookError, BookError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    return 0
