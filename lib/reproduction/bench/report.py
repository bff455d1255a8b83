"""Tables of a benchmark, as Markdown; they read well in a terminal, too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..report.markdown import plain, table
from .ceiling import PRODUCTS
from .forms import CONVOLUTIONS
from .results import Result, targets

CEILINGS = {
    "product-float32": "product of matrices, float32",
    "product-bf16": "product of matrices, bf16",
    CONVOLUTIONS: "the convolutions alone",
}


def speeds(case: Mapping[str, Any]) -> str:
    """Return who did how much in one case."""
    header = [
        "form",
        f"{case['unit']}s a second",
        "times the usual form",
        "share of a product's rate",
        "peak memory (MB)",
        "difference of the gradient",
    ]
    rows = []
    for row in case["contenders"]:
        if row["status"] != "measured":
            rows.append([row["title"], f"{row['status']}: {row['reason']}", "", "", "", ""])
            continue
        share = row.get("share_of_product")
        rows.append(
            [
                row["title"],
                spread(row["rate"]),
                spread(row["speedup"], digits=2),
                percent(share) if share else "–",
                "–" if row["peak_mb"] is None else f"{row['peak_mb']:.0f}",
                f"{row['difference']:.0e}" + ("" if row["exact"] else " (its precision)"),
            ]
        )
    if "ceiling" not in case:
        header.pop(3)
        rows = [row[:3] + row[4:] for row in rows]
    return table(header, rows)


def heading(case: Mapping[str, Any]) -> str:
    """Return the title of a case and the number of its rounds."""
    rounds = [row["rate"]["rounds"] for row in case["contenders"] if row["status"] == "measured"]
    return plain(f"{case['title']} ({rounds[0]} rounds)")


def ceilings(result: Result) -> str:
    """Return what the processor could do, GFLOP/s, in the same rounds."""
    cases = [c for c in result["cases"] if "ceiling" in c]
    rows = [
        [c["title"], *(spread(c["ceiling"][n]) for n in (*PRODUCTS, CONVOLUTIONS))] for c in cases
    ]
    return table(["in the rounds of", *CEILINGS.values()], rows)


def memory(result: Result) -> str:
    """Return peak memory by the number of inner steps."""
    rows = []
    for entry in result["memory"]:
        peaks = entry["peak_mb"]
        growth = "–" if None in peaks else f"{100 * (peaks[-1] / peaks[0] - 1):+.1f} %"
        cells = [
            f"K = {k}: {'–' if p is None else f'{p:.0f}'}"
            for k, p in zip(entry["steps"], peaks, strict=True)
        ]
        rows.append([entry["title"], entry["contender"], ", ".join(cells), growth])
    return table(["network", "form", "peak memory (MB)", "growth"], rows)


def processes(result: Result) -> str:
    """Return what a second process on a second core adds."""
    rows = [[e["title"], spread(e["gain"], digits=2)] for e in result["two_processes"]]
    return table(["case", "two processes over one"], rows)


def verdicts(result: Result) -> str:
    """Return the targets, and whether they were met."""
    words = {True: "met", False: "not met", None: "not measured"}
    rows = [
        [
            target.what,
            f"{'at most' if target.most else 'at least'} {target.needed:g}",
            "–" if target.value is None else f"{target.value:.2f}",
            words[target.met],
        ]
        for target in targets(result)
    ]
    return table(["target", "needed", "measured", ""], rows)


def profiles(result: Result) -> str:
    """Return where the library's time goes, by case, as a table."""
    found = result.get("profiles", [])
    if not found:
        return "This result holds no profile."
    kinds = list(found[0]["shares"])
    rows = [(p["title"], *(f"{p['shares'][k]:.0%}" for k in kinds)) for p in found]
    return table(("case", *kinds), rows)


def machine(result: Result) -> str:
    """Return where and when a result was measured, one line."""
    at, versions = result["machine"], result["versions"]
    parts = [
        f"{at['processor']}, {at['cores']} cores, {at['memory_gb']:.0f} GB, {at['vectors']}",
        ", ".join(f"{name} {v}" for name, v in versions.items() if v),
        f"one thread, {result['finished'][:10]}, commit {result['commit'] or 'unknown'}, "
        f"load before {result['load_before']:.1f}",
    ]
    trial = "A short trial, not a measurement. " if result["quick"] else ""
    return plain(trial + "; ".join(parts))


def full(result: Result) -> str:
    """Return everything, with headings."""
    parts = [machine(result)]
    for case in result["cases"]:
        parts += [f"### {heading(case)}", speeds(case)]
    sections: Sequence[tuple[str, str, Any]] = (
        ("Ceiling (GFLOP/s)", "cases", ceilings),
        ("Where the time goes", "profiles", profiles),
        ("Memory", "memory", memory),
        ("Two processes", "two_processes", processes),
        ("Targets", "targets", verdicts),
    )
    for title, part, show in sections:
        if result.get(part):
            parts += [f"### {title}", show(result)]
    return "\n\n".join(parts)


def spread(value: Mapping[str, float], digits: int | None = None) -> str:
    """Format a median with its quartiles: ``8.5 [8.4, 8.7]``."""
    if digits is None:
        digits = max(0, 2 - len(str(int(value["median"])))) + (value["median"] < 1)
    median, low, high = (f"{value[k]:.{digits}f}" for k in ("median", "low", "high"))
    return f"{median} [{low}, {high}]"


def percent(value: Mapping[str, float]) -> str:
    """Format a share with its quartiles, percent."""
    median, low, high = (f"{100 * value[k]:.0f}" for k in ("median", "low", "high"))
    return f"{median} [{low}, {high}] %"
