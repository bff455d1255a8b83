# The pipeline: records -> executed notebooks -> book.
#
#   snakemake -c2                                   everything in the quick profile (`make book`)
#   snakemake -c2 records --config profile=study    the records of a profile (`make study`)
#   snakemake --workflow-profile profiles/slurm ... the same on a cluster (book/cluster.md)
#
# Profiles: quick (embedded data, minutes), study (real data), search (its hyper-parameters),
# paper (for a GPU), smoke (for tests).
import re
import sys
from hashlib import sha256
from pathlib import Path

from reproduction.plan import study
from reproduction.publish.failures import Failures
from reproduction.plan.resources import megabytes, minutes

PROFILE = str(config.get("profile", "quick"))
DEVICE = config.get("device", "auto")  # auto, cpu, cuda, mps or xpu
WORK = config.get("work", "results")  # where runs keep their checkpoints
# a GPU is asked for
GPU = DEVICE not in ("auto", "cpu") or (DEVICE == "auto" and PROFILE == "paper")
RUNS_ON = DEVICE if GPU else "cpu"  # what was not asked for is not used
PYTHON = sys.executable
try:
    EXPERIMENTS = {experiment.name: experiment for experiment in study.experiments(PROFILE)}
except ValueError as error:
    sys.exit(f"error: {error}")
if "runs" in config:  # of a sweep: a file with lines "<experiment> <seed>"
    CHOSEN = study.chosen_runs(PROFILE, Path(config["runs"]).read_text().splitlines())
    EXPERIMENTS |= {run.experiment: study.find(PROFILE, run.experiment) for run in CHOSEN}
else:
    CHOSEN = study.plan(PROFILE)
PLAN = {run.record: run for run in CHOSEN}  # record -> run
NOTEBOOKS = sorted(path.stem for path in Path("notebooks").glob("*.ipynb"))
EXECUTED = f"_build/notebooks/{PROFILE}"


def files(pattern, folder="."):
    """Return the files that match a pattern, as sorted strings."""
    found = [path for path in Path(folder).glob(pattern) if path.is_file()]
    return sorted(str(path) for path in found if "__pycache__" not in path.parts)


def stamp(name, paths):
    """Return a file that changes when one of some files does: one input instead of hundreds.

    The scheduler looks at every input of every job whenever a job ends.
    """
    sums = [f"{sha256(Path(path).read_bytes()).hexdigest()}  {path}\n" for path in paths]
    target = Path("_build", "inputs", name)
    if not target.is_file() or target.read_text() != "".join(sums):
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text("".join(sums))
    return str(target)


LIBRARY = files("lib/**/*.py") + files("lib/**/*.json")
# What a record depends on; a change in a report, a claim or the benchmark makes none stale.
MAKES_RECORDS = ("lib/wheretolearn/", "lib/reproduction/runs/", "lib/reproduction/plan/")
TRAINS = stamp("trains", [path for path in LIBRARY if path.startswith(MAKES_RECORDS)])
SHOWN_TO_ALL = [
    stamp("library", LIBRARY),
    stamp(
        "records",
        [
            *(path for folder in ("study", "search", "paper", "bench")
              for path in files(f"results/{folder}/**/*.json")),
            *files("results/paper/*.csv"),
        ],
    ),
]
# Records that are committed or dear, or made where the library is not a file beside them, are
# made where they are missing, and never remade on their own.
REMADE = PROFILE in ("quick", "smoke") and WORK == "results"
# Runs of seconds are made without a start of Python for each, in a folder for this state of the
# code; then each is taken from there, or made by itself where that failed.
TOGETHER = (
    PROFILE == "quick" and REMADE and "runs" not in config and not workflow.resource_settings.nodes
)
if TOGETHER:
    WORK = f"_build/runs/{sha256(Path(TRAINS).read_bytes()).hexdigest()[:16]}"
FAILED = Failures()
logger.addHandler(FAILED)


onerror:
    print(f"\n{FAILED}", file=sys.stderr)


wildcard_constraints:
    folder="|".join({re.escape(Path(record).parts[1]) for record in PLAN}) or "none",
    experiment="|".join({re.escape(run.experiment) for run in PLAN.values()}) or "none",
    seed=r"\d+",
    notebook="|".join(map(re.escape, NOTEBOOKS)) or "none",


localrules:
    all,
    records,
    notebooks,
    book,


rule all:
    input:
        "_build/html/index.html",


rule records:
    input:
        list(PLAN),


rule notebooks:
    input:
        expand(f"{EXECUTED}/{{notebook}}.ipynb", notebook=NOTEBOOKS),


def planned(wildcards):
    """Return the experiment behind a record."""
    return EXPERIMENTS[wildcards.experiment]


def borrowed(wildcards):
    """Return the record whose masks a run uses, if it uses any; its age says nothing."""
    source = planned(wildcards).masks_from
    if not source:
        return []
    record = f"results/{wildcards.folder}/{source}/seed{wildcards.seed}.json"
    return record if REMADE else ancient(record)


rule batch:
    input:
        TRAINS,
    output:
        f"{WORK}/batch",
    message:
        f"Training {len(CHOSEN)} runs"
    params:
        runs="\n".join(f"{run.experiment} {run.seed}" for run in CHOSEN),
    threads: workflow.cores if TOGETHER else 1
    shell:
        "echo {params.runs:q} > {output:q}\n"
        "OMP_NUM_THREADS=1 {PYTHON:q} -m reproduction batch {output:q} --profile {PROFILE:q}"
        " --device {RUNS_ON:q} --results {WORK:q} --cores {threads} || true"


rule run:
    input:
        borrowed,
        TRAINS if REMADE else [],
        ancient(f"{WORK}/batch") if TOGETHER else [],
    output:
        "results/{folder}/{experiment}/seed{seed}.json",
    log:
        "_build/logs/{folder}/{experiment}/seed{seed}.log",
    benchmark:
        "_build/logs/{folder}/{experiment}/seed{seed}.tsv"
    message:
        "Training {wildcards.experiment}, seed {wildcards.seed} ({wildcards.folder})"
    # by whoever sent the job, with another request; not on the spot, by the job itself
    retries: 0 if workflow.remote_exec else 2
    threads: 1
    resources:
        # a second try asks for more
        runtime=lambda wildcards, attempt: minutes(planned(wildcards), GPU, attempt),
        mem_mb=lambda wildcards, attempt: megabytes(planned(wildcards), GPU, attempt),
        **({"gpu": 1} if GPU else {}),
    params:
        made=lambda wildcards: f"{WORK}/{wildcards.folder}/{wildcards.experiment}/seed{wildcards.seed}",
    shell:
        "{{ [ -f {params.made:q}.json ] && cp {params.made:q}.log {log:q} 2>/dev/null; }} ||"
        " OMP_NUM_THREADS=1 {PYTHON:q} -m reproduction run {wildcards.experiment:q}"
        " --seed {wildcards.seed:q} --profile {PROFILE:q} --device {RUNS_ON:q}"
        " --results {WORK:q} > {log:q} 2>&1"
        " || {{ status=$?; [ $status -le 128 ]"
        ' || echo "killed by signal $((status - 128))" >> {log:q}; exit $status; }}\n'
        "[ {params.made:q}.json -ef {output:q} ] || cp {params.made:q}.json {output:q}"


def shown(wildcards):
    """Return the records of the reader's own runs that a notebook shows; dear ones as they are."""
    if wildcards.notebook not in study.FIGURES[PROFILE]:
        return []
    wanted = [run.record for run in study.plan(PROFILE, wildcards.notebook)]
    return wanted if REMADE else [record for record in wanted if Path(record).exists()]


rule notebook:
    input:
        SHOWN_TO_ALL,
        shown,
        source="notebooks/{notebook}.ipynb",
    output:
        EXECUTED + "/{notebook}.ipynb",
    log:
        "_build/logs/notebooks/{notebook}.log",
    benchmark:
        "_build/logs/notebooks/{notebook}.tsv"
    message:
        "Executing notebooks/{wildcards.notebook}.ipynb"
    threads: 1
    resources:
        runtime=30,
        mem_mb=2000,
    shell:
        "OMP_NUM_THREADS=1 {PYTHON:q} -m reproduction.publish notebook {input.source:q} {output:q}"
        " -p profile {PROFILE:q} > {log:q} 2>&1"


rule book:
    input:
        rules.notebooks.input,
        SHOWN_TO_ALL,
        stamp("book", [path for path in files("book/**/*") if "/mathjax/" not in path]),
        "_config.yml",
        "_toc.yml",
    output:
        "_build/html/index.html",
    log:
        "_build/logs/book.log",
    benchmark:
        "_build/logs/book.tsv"
    message:
        "Building the book"
    shell:
        "{PYTHON:q} -m reproduction.publish book --notebooks {EXECUTED:q} > {log:q} 2>&1"
