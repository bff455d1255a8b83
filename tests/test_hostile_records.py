"""Whatever a record calls things, it is shown letter by letter: nothing of it comes out live."""

from __future__ import annotations

import copy
import io
import json
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import matplotlib
import msgspec
import pandas as pd
import pytest
from markdown_it import MarkdownIt
from markdown_it.common.utils import escapeHtml
from markdown_it.renderer import RendererHTML
from myst_parser.config.main import MdParserConfig
from myst_parser.parsers.mdit import create_md_parser

from reproduction.bench import cost, report
from reproduction.bench.result import Result
from reproduction.claims import finding as finding_
from reproduction.claims import ledger, words
from reproduction.claims.claim import left_out
from reproduction.plan import study
from reproduction.report import figure1 as figures
from reproduction.report import figure2, sparsity_profiles
from reproduction.report import markdown as tables
from reproduction.report import osaka as osaka_figures
from reproduction.report import tables_1_and_2 as paper_tables
from synthetic import made_up_osaka_record, made_up_record

ROOT = Path(__file__).parents[1]
HOSTILE = (
    "<img src=x onerror=alert(1)>",
    "<script>alert(1)</script>",
    "[press](javascript:alert(1))",
    "![see](javascript:alert(1))",
    "<javascript:alert(1)>",
    "`code` ``` and ` more",
    "one | two | three",
    "first\n\n<b>second</b>\r\n| a | b |",
    "]: x [y]: javascript:alert(1)\n[y]: javascript:alert(1)\n",
    "a\\",
    "&lt;img&gt; &#60;",
    "$\\frac{$ and $$ \\href{javascript:alert(1)}{x}",
    "\x1b[31m red \x07",
    "https://example.com/x //example.com www.example.com example.com a.b@example.com",
    "mailto:a@b ftp://127.0.0.1/ http://[::1]/",
    "*a* **b** _c_ __d__ ~~e~~ {{ f }}",
    *("# a", "1. a", "1) a", "- a", "+ a", "> a", "    a", "---", "% a", "(a)=", ":::a", "~~~"),
    "[ ] a",
)
ALLOWED = {"p", "table", "thead", "tbody", "tr", "th", "td", "strong", "em", "h3", "code_inline"}

RENDERERS = (  # of the book, and of those that make more live, as GitHub does
    MarkdownIt("commonmark", {"html": True}).enable("table"),
    create_md_parser(
        MdParserConfig(enable_extensions={"colon_fence", "dollarmath", "substitution"}),
        RendererHTML,
    ),
    MarkdownIt("gfm-like"),
)
for renderer in RENDERERS:  # the reader's browser may be less careful
    renderer.validateLink = lambda url: True  # type: ignore[method-assign]


def assert_inert(text: str, hostile: str, links: tuple[str, ...] = ()) -> None:
    """Nothing but our own tables and paragraphs comes of it, and the words can be read."""
    for renderer in RENDERERS:
        assert_shown(renderer, text, hostile, links)


def assert_shown(
    markdown: MarkdownIt, text: str, hostile: str, links: tuple[str, ...] = ()
) -> None:
    shown = []
    for token in markdown.parse(text):
        tags = {token.tag} if token.tag else set()
        for child in token.children or []:
            assert child.type not in ("html_inline", "image"), child
            if child.type == "link_open":
                assert child.attrs["href"] in links, child
            elif child.type.endswith("_open"):
                tags.add(child.tag)
            if child.type in ("text", "code_inline"):
                assert child.type == "text" or "code" not in child.content, child
                shown.append(child.content)
            elif child.type in ("softbreak", "hardbreak"):
                shown.append(" ")
        assert token.type not in ("html_block", "fence", "code_block"), token
        assert tags <= ALLOWED, token
    for part in text.split("\n\n"):
        if part.startswith("|"):
            lines = part.split("\n")
            assert len({line.count("|") for line in lines}) == 1, part
            assert all(line.startswith("| ") and line.endswith(" |") for line in lines)
    assert not {c for c in text if ord(c) < 32} - {"\n"}
    readable = "".join(shown)
    for word in hostile.split():
        if word.isprintable():
            assert word in readable, f"{word} is lost"


def few_shot(name: str, hostile: str, **change: Any) -> list[dict[str, Any]]:
    """Two records of a planned run, all texts of which that name nothing planned are hostile."""
    e = study.find_few_shot("study", name)
    found = []
    for seed in (0, 1):
        r = made_up_record(name, seed)
        r["parameters"] = e.parameters() | {"profile": hostile, "data": hostile}
        r |= {"profile": hostile, "figure": hostile} | change
        r["data"] = {"name": hostile, "fingerprint": hostile, "classes": {hostile: 1}}
        r["provenance"] = {
            k: hostile if isinstance(v, str) or v is None else v for k, v in r["provenance"].items()
        }
        found.append(r)
    return found


def osaka(hostile: str) -> list[dict[str, Any]]:
    e = study.find("study", "osaka98-5way-sparse-c-maml")
    assert isinstance(e, osaka_figures.OsakaExperiment)
    sources = {hostile: 0.5, "two": 0.5}
    rates = {n: [0.1] for n in osaka_figures.TENSORS}
    found = []
    for seed in (0, 1):
        r = made_up_osaka_record(
            e,
            seed,
            by_source=sources,
            precision=0.5,
            recall=0.5,
            f1=0.5,
            sparsity=0.1,
            around=[0.5] * (osaka_figures.BEFORE + 1 + osaka_figures.AFTER),
            curves={"step": [1], "frozen": {n: [0] for n in rates}, "rates": rates},
        )
        r["contexts"]["names"] = list(sources)
        r["parameters"] |= {"profile": hostile, "stream": hostile}
        found.append(r)
    return found


def entry_about(hostile: str) -> ledger.Entry:
    lost = [made_up_record(hostile, 0, diverged=True), made_up_record(hostile, 1)]
    line = {"statistic": "gain", "mean": 1.0, "low": 0.5, "high": 1.5, "seeds": 2}
    evidence = pd.DataFrame([line | {"needed": "above 0", "holds": True}])
    verdict = f"supported ({'; '.join(left_out(lost))})"
    found = finding_.Finding("3. so", verdict, evidence)
    beside = words.Answers("undecided", "–", "not run yet")
    return ledger.Entry(ledger.claims()[0], found, verdict, None, None, 1, beside)


def benchmark(hostile: str) -> Result:
    """The committed benchmark with every text replaced that is not a key of ours."""
    (path, *_) = sorted((ROOT / "results/bench").glob("*.json"))

    def worse(value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {k: worse(v, k) for k, v in value.items()}
        if isinstance(value, list):
            return [worse(v, key) for v in value]
        kept = ("case", "contender", "status", "unit")
        return hostile if isinstance(value, str) and key not in kept else value

    result = worse(json.loads(path.read_text()))
    result["cases"] = result["cases"][:2]
    first = result["cases"][0]["contenders"][-1]
    result["cases"][0]["contenders"].append(
        copy.deepcopy(first) | {"status": "different", "reason": hostile, "rate": None}
    )
    return msgspec.convert(result, Result)


MAML, SPARSE = "convnet4-5shot-maml", "convnet4-5shot-sparse-maml"
TABLE1 = paper_tables.columns_of_table1(ROOT / "results/paper")

MARKDOWN: dict[str, Callable[[str], str]] = {
    "runs": lambda h: tables.runs(few_shot(MAML, h, experiment=h)),
    "taught": lambda h: tables.taught(few_shot(MAML, h, experiment=h)),
    "verdicts": lambda h: finding_.verdicts([entry_about(h).finding]),
    "missing": lambda h: tables.with_missing(("a",), [("b",)], [h]),
    "side by side": lambda h: paper_tables.side_by_side(TABLE1, few_shot(SPARSE, h)),
    "grey": lambda h: paper_tables.from_omniglot(few_shot("grey-5shot-maml", h)),
    "osaka": lambda h: osaka_figures.accuracy_tables(osaka(h), "study"),
    "ledger": lambda h: ledger.evidence([entry_about(h)]),
    "benchmark": lambda h: report.full(benchmark(h)),
    "headings": lambda h: "\n\n".join(report.heading(c) for c in benchmark(h).cases),
    "cost": lambda h: cost.measured(benchmark(h), {h: []}),
    "ends": lambda h: sparsity_profiles.end_table(
        [study.find_few_shot("study", SPARSE)], few_shot(SPARSE, h)
    ),
}


@pytest.mark.parametrize("hostile", HOSTILE)
def test_text_is_shown_letter_by_letter(hostile):
    for markdown in RENDERERS:
        html = markdown.render(tables.plain(hostile)).replace("\r", "\n")
        if "\x1b" not in hostile:  # which Markdown has no way to show
            assert html == f"<p>{escapeHtml(hostile).replace(chr(13), chr(10))}</p>\n"


@pytest.mark.parametrize("hostile", HOSTILE)
@pytest.mark.parametrize("where", MARKDOWN)
def test_markdown_is_inert(where, hostile):
    assert_inert(MARKDOWN[where](hostile), hostile)


@pytest.mark.parametrize("hostile", HOSTILE)
def test_the_overview_links_to_our_pages_only(hostile):
    entries = [entry_about(hostile)]
    text = ledger.overview(entries) + "\n\n" + ledger.estimates(entries)
    assert_inert(text, hostile, links=("fig1_sparsity_emerges.html",))


@pytest.mark.parametrize("hostile", HOSTILE)
def test_a_summary_is_inert(hostile):
    folded = tables.folded(hostile, "text")
    inside = folded.removeprefix("<details>\n<summary>").removesuffix(
        "</summary>\n\ntext\n\n</details>"
    )
    assert not set("<\n") & set(inside)
    assert all(word in unescape(inside) for word in hostile.split() if word.isprintable())


FIGURES: dict[str, Callable[[str], Any]] = {
    "figure 1": lambda h: figures.draw_fig1(
        *figures.fig1(h, few_shot("fig1-omniglot-sparse50", h, experiment=f"{h}-sparse50"))
    ),
    "figure 2": lambda h: figure2.draw_fig2(figure2.fig2(h, few_shot(MAML, h))),
    "table 1": lambda h: paper_tables.draw_gains(TABLE1, few_shot(MAML, h)),
    "ends": lambda h: sparsity_profiles.draw_end(
        [study.find_few_shot("study", SPARSE)], few_shot(SPARSE, h)
    ),
    "osaka": lambda h: osaka_figures.draw_stream(h, osaka(h), "study"),
    "benchmark": lambda h: report.draw(benchmark(h)),
}


@pytest.mark.filterwarnings("ignore:Glyph")
@pytest.mark.parametrize("where", FIGURES)
def test_figures_are_inert(where):
    """All at once, for drawing is slow; in vectors, with text as text and as outlines."""
    figure = FIGURES[where](" ".join(h for h in HOSTILE if "\x1b" not in h))
    for kind in ("none", "path"):
        file = io.BytesIO()
        with matplotlib.rc_context({"svg.fonttype": kind}):
            figure.savefig(file, format="svg")
        for node in ElementTree.fromstring(file.getvalue()).iter():
            tag = node.tag.rpartition("}")[2]
            assert tag not in ("script", "img", "a", "foreignObject"), where
            assert not any(a.startswith("on") or "javascript" in v for a, v in node.attrib.items())


@pytest.mark.parametrize("name", ["fig1-glyphs-sparse50", "a_b", "x+inner_rate=0.1", "data set 2"])
def test_ordinary_names_stay_as_they_are(name):
    assert tables.code(name) == f"`{name}`"
    assert tables.table(("a",), [(name,)]).endswith(f"| {name} |")
    said = "0.48 [0.46, 0.49] points (p = 0.9), ±2 % − α × 0.5, Intel(R) Xeon(R) @ 2.2GHz"
    assert tables.plain(said) == said
