# The pipeline: records -> executed notebooks -> book.
#
#   snakemake -c2                                   everything in the quick profile (`make book`)
#   snakemake -c2 records --config profile=study    the records of a profile (`make study`)
#   snakemake --executor slurm ...                  the same on a cluster, with Snakemake's plugin
#
# Profiles: quick (embedded data, minutes), study (real data), paper (for a GPU), smoke (for tests).
import math
import re
import sys
from pathlib import Path

from wheretolearn import study

PROFILE = config.get("profile", "quick")
PYTHON = sys.executable
PLAN = {run.record: run for run in study.plan(PROFILE)}  # record -> run
NOTEBOOKS = sorted(path.stem for path in Path("notebooks").glob("*.ipynb"))
EXECUTED = f"_build/notebooks/{PROFILE}"


def files(pattern, folder="."):
    """Return the files that match a pattern, as sorted strings."""
    found = [path for path in Path(folder).glob(pattern) if path.is_file()]
    return sorted(str(path) for path in found if "__pycache__" not in path.parts)


LIBRARY = files("lib/wheretolearn/**/*.py") + files("lib/wheretolearn/**/*.json")
# Modules that only show what a run left behind; a change in them makes no record stale.
SHOWS_ONLY = {
    *("__main__.py", "cli.py", "publish.py", "suggestions.py"),
    *("analysis.py", "figures.py", "layers.py", "readme.py", "tables.py"),
}
TRAINS = [path for path in LIBRARY if Path(path).name not in SHOWS_ONLY]
# Records that are committed or dear are made where they are missing, and never remade on their own.
REMADE = PROFILE in ("quick", "smoke")


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
    """Return the planned run behind a record."""
    return PLAN[f"results/{wildcards.folder}/{wildcards.experiment}/seed{wildcards.seed}.json"]


rule run:
    input:
        TRAINS if REMADE else [],
    output:
        "results/{folder}/{experiment}/seed{seed}.json",
    log:
        "_build/logs/{folder}/{experiment}/seed{seed}.log",
    benchmark:
        "_build/logs/{folder}/{experiment}/seed{seed}.tsv"
    message:
        "Training {wildcards.experiment}, seed {wildcards.seed} ({wildcards.folder})"
    retries: 2
    threads: 1
    resources:
        # minutes; the estimate is for the machine of the README, and a second try gets more
        runtime=lambda wildcards, attempt: math.ceil(planned(wildcards).seconds / 60 * 3 * attempt) + 5,
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
    shell:
        "OMP_NUM_THREADS=1 {PYTHON:q} -m wheretolearn run {wildcards.experiment:q}"
        " --seed {wildcards.seed:q} --profile {PROFILE:q} > {log:q} 2>&1"


def shown(wildcards):
    """Return the records of the reader's own runs that a notebook shows."""
    return [record for record, run in PLAN.items() if run.figure == wildcards.notebook]


rule notebook:
    input:
        LIBRARY,
        shown,
        files("results/study/**/*.json"),
        files("results/paper/*.csv"),
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
        "OMP_NUM_THREADS=1 {PYTHON:q} -m wheretolearn.publish notebook {input.source:q} {output:q}"
        " -p profile {PROFILE:q} > {log:q} 2>&1"


rule book:
    input:
        rules.notebooks.input,
        LIBRARY,
        [path for path in files("book/**/*") if "/mathjax/" not in path],
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
        "{PYTHON:q} -m wheretolearn.publish book --notebooks {EXECUTED:q} > {log:q} 2>&1"
