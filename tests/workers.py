"""A pipeline whose workers are forked from one process, which kills some of them.

Python and torch take seconds to start, and a study of many runs starts them many times.
So the pipeline is given, in the place of Python, a script that hands the worker's command
to a server that has everything imported. To the pipeline it is a process like any other.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path

from driver import use_small_things
from reproduction import cli
from reproduction.plan import study
from reproduction.publish import book as publish
from reproduction.runs import few_shot
from synthetic import TINY, image_set
from wheretolearn import data

PYTHON = """#!{python} -IS
import os, signal, socket, sys
if sys.argv[1:4] != ["-m", "reproduction", "run"]:
    os.execv("{python}", ["{python}", *sys.argv[1:]])
with socket.socket(socket.AF_UNIX) as server:
    server.connect("{address}")
    socket.send_fds(server, ["\\0".join([os.getcwd(), *sys.argv[3:]]).encode()], [1, 2])
    status = int(server.recv(20))
if status < 0:
    os.kill(os.getpid(), -status)
sys.exit(status)
"""
"""What takes the place of Python."""

GOOD = [
    TINY.replace(name=f"tiny{n}", inner_rate=n / 20, updates=20, eval_every=5) for n in range(1, 13)
]
HOPELESS = TINY.replace(name="hopeless", data="miniimagenet")  # cannot be downloaded


def _tiny_or_real(name: str, size: int, root: Path | None = None) -> data.ImageSet:
    return image_set() if name == "glyphs" else data.load(name, size, root=root)


def use_tiny_study() -> None:
    """Make the smoke profile a study of 24 runs, and 2 that have no data."""
    use_small_things()
    few_shot.load = _tiny_or_real  # type: ignore[assignment]
    study.FIGURES["smoke"] = {study.FIG1: [*GOOD, HOPELESS]}


def pipeline(folder: str, python: str, *arguments: str) -> None:
    """Run the pipeline in a folder; it starts its workers with another Python."""
    use_tiny_study()
    os.chdir(folder)
    while not Path("socket").exists():  # the workers' server imports as much as we did
        time.sleep(0.05)
    sys.executable = python
    sys.exit(publish.main(["pipeline", *arguments]))


def serve(address: str, seed: str) -> None:
    """Start workers as they are asked for."""
    import torch._dynamo  # noqa: F401 - what the first update would import

    use_tiny_study()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(address)
        server.listen(100)
        while True:
            connection, _ = server.accept()
            if os.fork() == 0:
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                _supervise(connection, seed)
                os._exit(0)
            connection.close()


def _supervise(connection: socket.socket, seed: str) -> None:
    """Start a worker, kill it perhaps, and send back how it ended."""
    message, outputs, *_ = socket.recv_fds(connection, 10_000, 2)
    folder, *arguments = message.decode().split("\0")
    os.chdir(folder)
    worker = os.fork()
    if worker == 0:
        _work(arguments, outputs)
    place = f"smoke/{arguments[1]}/seed{arguments[3]}"
    starts = Path("starts", place)
    starts.parent.mkdir(parents=True, exist_ok=True)
    with starts.open("a") as file:
        file.write("start\n")
    tries = len(starts.read_text().splitlines())
    chance = random.Random(f"{seed} {place} {tries}")
    if tries < 3 and chance.random() < 0.5:  # the third is the last: there are two retries
        checkpoint = Path(f"results/.checkpoints/{place}.pt")
        _wait_for_checkpoints(checkpoint, worker, chance.randint(1, 9))
        time.sleep(chance.random() * 0.01)
        os.kill(worker, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1])
    if status == -signal.SIGKILL:
        with Path("kills").open("a") as file:
            file.write(f"{place}\n")
    connection.sendall(str(status).encode())


def _work(arguments: list[str], outputs: list[int]) -> None:
    """Be a worker."""
    os.dup2(outputs[0], 1)
    os.dup2(outputs[1], 2)
    sys.argv = ["wheretolearn", *arguments]
    status = 0
    try:
        cli.main()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException as error:
        print(repr(error), file=sys.stderr)
        status = 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _wait_for_checkpoints(path: Path, worker: int, wanted: int) -> None:
    """Return after some checkpoints, or when the worker has ended without them."""
    last = None
    while wanted > 0 and os.waitid(os.P_PID, worker, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        with suppress(FileNotFoundError):
            stamp = (path.stat().st_mtime_ns, path.stat().st_ino)
            wanted -= stamp != last
            last = stamp
        time.sleep(0.001)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(*sys.argv[2:])
    else:
        pipeline(*sys.argv[2:])
