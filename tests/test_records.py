"""Records: what is written is read again, what was changed is refused, nothing is lost."""

import contextlib
import copy
import json
import resource
import subprocess
import sys
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conftest import ROOT
from reproduction.plan import study
from reproduction.runs import few_shot, records, run_or_resume
from reproduction.runs.record_types import KINDS, FewShotFinal, FewShotRecord, Provenance
from synthetic import TINY, image_set, made_up_osaka_record, made_up_record
from synthetic_streams import stream_record


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Return the record of a real run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(few_shot, "load", lambda name, size, root=None: image_set())
        return run_or_resume.run(TINY, 0, results=tmp_path_factory.mktemp("r"), progress=False)


def test_round_trip(tmp_path, trained):
    unsealed = {k: v for k, v in trained.items() if k != "content_sha256"}
    path = tmp_path / "new" / "folders" / "seed0.json"
    written = records.write(path, unsealed)
    assert records.read(path) == written == trained
    assert list(path.parent.iterdir()) == [path]
    assert "content_sha256" not in unsealed


def test_the_checksum_does_not_depend_on_the_order_of_fields(trained):
    turned = dict(reversed(trained.items()))
    assert records.checksum(turned) == trained["content_sha256"]
    assert records.validate(turned)


# --- changes


def leaves(node, path=()):
    """Return the path of every value that is no object and no list."""
    if isinstance(node, dict | list):
        items = node.items() if isinstance(node, dict) else enumerate(node)
        return [leaf for k, v in items for leaf in leaves(v, (*path, k))]
    return [path]


def altered(value, chance):
    """Return another value of the same kind."""
    if isinstance(value, bool) or value is None:
        return 0.125
    if isinstance(value, int):
        return value + chance.choice([-1, 1, 10**6])
    if isinstance(value, float):
        return value + chance.choice([1e-12 * max(1, abs(value)), -0.5, 3.0])
    at = chance.randrange(len(value)) if value else 0
    return value[:at] + ("x" if value[at : at + 1] != "x" else "y") + value[at + 1 :]


@given(data=st.data(), chance=st.randoms(use_true_random=False))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_single_change_is_seen(trained, data, chance):
    path = data.draw(st.sampled_from(leaves(trained)))
    changed = copy.deepcopy(trained)
    node = changed
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = altered(node[path[-1]], chance)
    assert changed != trained
    with pytest.raises(records.RecordError):
        records.validate(changed)


@given(data=st.data(), value=st.integers(1, 255))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_flipped_byte_is_refused_or_harmless(tmp_path, trained, data, value):
    content = bytearray(json.dumps(trained).encode())
    content[data.draw(st.integers(0, len(content) - 1))] ^= value
    path = tmp_path / "record.json"
    path.write_bytes(content)
    with contextlib.suppress(records.RecordError):
        assert records.read(path) == trained  # a blank that became another blank


@pytest.mark.parametrize("version", [0, 2, "1", None, 1.5])
def test_another_schema_version_says_so(trained, version):
    with pytest.raises(records.RecordError, match=r"schema version .*delete the file and run"):
        records.validate(trained | {"schema_version": version}, "old.json")


@pytest.mark.parametrize("value", [[], "text", 3, None, {}])
def test_what_is_no_record_is_refused(tmp_path, value):
    path = tmp_path / "x.json"
    path.write_text(json.dumps(value))
    with pytest.raises(records.RecordError, match=r"x\.json"):
        records.read(path)


@pytest.mark.parametrize("content", [b"", b"{", b'{"a": 1', b"\xff\xfe", b"\x00" * 50])
def test_files_that_are_not_json_are_refused(tmp_path, content):
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(records.RecordError, match=r"x\.json: not JSON"):
        records.read(path)


@pytest.mark.parametrize("nested", ["[]", '{"x":}', '{"parameters":[]}'])
def test_json_that_is_nested_too_deeply_is_refused(tmp_path, nested):
    path = tmp_path / "x.json"
    head, tail = nested[:-1], nested[-1]
    path.write_text(head * 100_000 + "1" + tail * 100_000)
    with pytest.raises(records.RecordError, match=r"x\.json: not JSON"):
        records.read(path)


NEWER = {"input_seconds", "environment", "probes", "others", "masks", "rate_quantiles"}
"""Fields that old records do not have."""


@pytest.mark.parametrize("part", [None, "data", "curves", "final", "provenance"])
def test_every_field_is_needed_and_no_other_is_there(trained, part):
    def changed(name, **value):
        record = copy.deepcopy(trained)
        fields = record if part is None else record[part]
        del fields[name]
        fields |= value
        return record

    for name in (trained if part is None else trained[part]).keys() - NEWER:
        with pytest.raises(records.RecordError, match=f"{part or ''}.*{name}|schema version"):
            records.validate(changed(name))
        if part != "provenance":
            with pytest.raises(records.RecordError):
                records.validate(resealed(changed(name, extra=1)))


def test_a_run_writes_every_field(trained):
    for part, typed in (
        (trained, FewShotRecord),
        (trained["final"], FewShotFinal),
        (trained["provenance"], Provenance),
    ):
        assert part.keys() == {f.name for f in msgspec.structs.fields(typed)} - {"others"}
    assert set(trained["parameters"]) == set(TINY.parameters())


def test_types_of_records_have_a_json_schema():
    for kind in KINDS.values():
        definitions = msgspec.json.schema(kind)["$defs"]
        assert definitions[kind.__name__]["additionalProperties"] is False


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_json_does_not_have_are_refused(tmp_path, trained, number):
    broken = copy.deepcopy(trained)
    broken["curves"]["val_loss"][1] = number
    with pytest.raises(records.RecordError):
        records.validate(broken)
    path = tmp_path / "seed0.json"
    with pytest.raises(records.RecordError, match="not finite"):
        records.write(path, {k: v for k, v in broken.items() if k != "content_sha256"})
    assert list(tmp_path.iterdir()) == []
    path.write_text(json.dumps(broken))  # Python writes NaN where JSON has none
    with pytest.raises(records.RecordError, match="not a JSON number"):
        records.read(path)


def resealed(record):
    return record | {"content_sha256": records.checksum(record)}


STREAM = stream_record(
    study.find("smoke", "glyph-rotations-la-maml"),  # type: ignore[arg-type]
    0,
    frozen={"layers.0.weight": [5, 6]},
)
SMALL_OSAKA = study.find("smoke", "osaka90-5way-c-maml").replace(steps=2, shots=5)
OSAKA = made_up_osaka_record(
    SMALL_OSAKA,  # type: ignore[arg-type]
    0,
    curves={"step": [1], "loss": [0.5], "frozen": {"output.bias": [1]}},
    sparsity=0.2,
    around=[0.5] * 26,
    by_source={"one": 0.5},
    f1=0.5,
)


def one_of_each(trained):
    probes = {"on:cub": {"mean": 0.5, "low": 0.4, "high": 0.6, "n": 9}}
    few = trained | {"final": trained["final"] | {"probes": probes}}
    return {"few-shot": few, "continual": STREAM, "osaka": OSAKA}


OUT_OF_RANGE: dict[str, dict[str, Any]] = {
    "few-shot": {
        **{"final/test_accuracy/mean": 7.0, "final/test_accuracy/n": -1, "final/sparsity": -3.0},
        **{"final/val_accuracy": 1.01, "final/best_sparsity": 2.0, "final/best_update": -1},
        **{"final/test_loss": -0.5, "final/probes/on:cub/mean": 59.0},
        **{"final/probes/on:cub/low": "low", "curves/val_accuracy/1": 58.0},
        **{"curves/train_loss/1": -1.0, "curves/sparsity/0": -0.1, "curves/update/0": -1},
        **{"curves/frozen/layers.0.weight/0": -1, "tensors/layers.0.weight": 0},
        **{"data/classes/test": -2},
    },
    "continual": {
        **{"final/ra": 7.0, "final/la": -0.1, "final/bti": -1.5, "final/sparsity": -3.0},
        **{"final/gradient": 2.0, "curves/accuracy/0/1": 58.0, "curves/before/0": -0.1},
        **{"curves/frozen/layers.0.weight/1": -6, "curves/interference/gradient/1": -2.0},
    },
    "osaka": {
        **{"final/accuracy": 7.0, "final/by_source/one": 50.0, "final/around/0": -0.5},
        **{"final/f1": 1.5, "final/gradients": -1, "curves/step/0": -1, "curves/loss/0": -0.5},
        **{"curves/frozen/output.bias/0": -1, "contexts/sources/0": -1},
    },
}
PROVENANCE = {"wall_seconds": -1.0, "interruptions": -1, "threads": 0}
CONTRADICTIONS: list[tuple[str, str, Any]] = [
    ("few-shot", "figure", "other"),
    ("few-shot", "data/name", "other"),
    ("few-shot", "parameters", {}),
    ("few-shot", "kind", ["few-shot"]),
    ("few-shot", "diverged_at", 3),
    ("few-shot", "status", "diverged"),
    ("few-shot", "curves/val_accuracy", [0.5]),
    ("few-shot", "curves/frozen/layers.0.weight", [10**6] * 4),
    ("few-shot", "curves/frozen/elsewhere", [0] * 4),
    ("few-shot", "curves/sparsity/3", 0.123),
    ("few-shot", "final/update", 5),
    ("few-shot", "final/test_accuracy", {"mean": 0.5, "low": -7.0, "high": 9.0, "n": 4}),
    ("few-shot", "final/test_accuracy", {"mean": 0.5, "low": 0.6, "high": 0.4, "n": 4}),
    ("few-shot", "final/test_accuracy", {"mean": 0.5, "low": 0.4, "high": 0.6, "n": 0}),
    ("few-shot", "final/test_accuracy", {"mean": 59.0, "low": None, "high": None, "n": 1}),
    ("few-shot", "final/probes/on:cub/low", 0.55),
    ("few-shot", "final/probes/on:cub/high", 1.5),
    ("continual", "curves/frozen/layers.0.weight", []),
    ("continual", "data/name", "other"),
    ("continual", "figure", "other"),
    ("continual", "status", "diverged"),
    ("continual", "diverged_at", {"task": 1}),
    ("continual", "curves/train_loss", [1.0]),
    ("continual", "curves/accuracy/1", [0.5]),
    ("continual", "curves/frozen/layers.0.weight/1", 401),
    ("continual", "curves/frozen/layers.0.weight/1", 7),
    ("osaka", "data/name", "other"),
    ("osaka", "diverged_at", {"step": 1}),
    ("osaka", "curves/loss", []),
    ("osaka", "curves/frozen/output.bias/0", 2),
    ("osaka", "final/accuracy", 0.9),
    ("osaka", "final/accuracy", None),
    ("osaka", "final/around", [0.5] * 3),
    ("osaka", "correct", "Cg=="),
    ("osaka", "correct", "?"),
    ("osaka", "parameters/steps", 3),
    ("osaka", "parameters/ways", "5"),
]
"""With the rest; whoever changes a part may seal the record again."""


@pytest.mark.parametrize(
    ("kind", "place", "value"),
    [
        *((kind, *item) for kind, items in OUT_OF_RANGE.items() for item in items.items()),
        *((k, f"provenance/{n}", v) for k in OUT_OF_RANGE for n, v in PROVENANCE.items()),
        *CONTRADICTIONS,
    ],
)
def test_what_cannot_be_is_refused_where_it_stands(trained, kind, place, value):
    record = one_of_each(trained)[kind]
    assert records.validate(resealed(record))
    where = None
    if (kind, place, value) not in CONTRADICTIONS:
        part, field = place.split("/")[:2]
        where = rf"record: {part}/({field}|\*)"
    with pytest.raises(records.RecordError, match=where):
        records.validate(resealed(with_changed(record, place, value)))


def with_changed(record, place, value):
    """Return a copy with another value at a place."""
    record = copy.deepcopy(record)
    *parents, last = place.split("/")
    node: Any = record
    for name in parents:
        node = node[int(name) if isinstance(node, list) else name]
    node[int(last) if isinstance(node, list) else last] = value
    return record


@pytest.mark.parametrize("kind", ["few-shot", "continual", "osaka"])
@pytest.mark.parametrize("field", ["experiment", "profile"])
def test_a_record_under_another_name_is_refused(trained, tmp_path, kind, field):
    """Than that of its parameters, or of its place."""
    record = one_of_each(trained)[kind]
    names = {"experiment": record["experiment"], "profile": record["profile"]}
    path = tmp_path / names["profile"] / names["experiment"] / f"seed{record['seed']}.json"
    records.write(path, record)
    assert records.read_run(path)
    with pytest.raises(records.RecordError, match=f"{field} is 'other', but made with"):
        records.validate(resealed(record | {field: "other"}))
    names[field] = "other"
    moved = tmp_path / names["profile"] / names["experiment"] / path.name
    moved.parent.mkdir(parents=True)
    path.rename(moved)
    with pytest.raises(records.RecordError, match="holds a record of"):
        records.read_run(moved)


# --- writing


def test_a_file_is_replaced_and_readable_by_others(tmp_path):
    path = tmp_path / "a" / "file"
    records.write_atomically(path, b"old")
    records.write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o644


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from reproduction.runs import records
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
folder = Path(sys.argv[1])
for what in (lambda: records.write_atomically(folder / "file", bytes(5000)),
             lambda: records.check_writable(folder / "file")):
    try:
        what()
    except records.WriteError as error:
        print(error)
records.write_atomically(folder / "small", b"fits")
"""


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="no limits on this system")
def test_a_full_disk(tmp_path):
    """A real error of the system, in the middle of the file."""
    path = tmp_path / "file"
    path.write_bytes(b"old")
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 2, done.stdout
    assert all("cannot write" in line and "nothing was lost" in line for line in lines)
    assert path.read_bytes() == b"old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "small"]


# --- reading many


def test_load(tmp_path):
    one, two = TINY.replace(name="one"), TINY.replace(name="two")
    for experiment in (two, one):
        for seed in (10, 2, 0):
            record = made_up_record(experiment.name, seed)
            record |= {"parameters": experiment.parameters(), "profile": "smoke"}
            if (experiment.name, seed) == ("two", 0):
                record["parameters"]["width"] = 999  # of another study
            records.write(tmp_path / f"smoke/{experiment.name}/seed{seed}.json", record)
    (tmp_path / "smoke/one/.seed3.json.tmp").write_text("half a rec")
    found = records.load(tmp_path, [one, two])
    assert [(r["experiment"], r["seed"]) for r in found] == [
        ("one", 0),
        ("one", 2),
        ("one", 10),
        ("two", 2),
        ("two", 10),
    ]
    assert records.load(tmp_path / "absent", [one]) == []
    path = tmp_path / "smoke/one/seed2.json"
    path.write_text(path.read_text().replace('"seed": 2', '"seed": 3'))
    with pytest.raises(records.RecordError, match=r"seed2\.json: the content was changed"):
        records.load(tmp_path, [one])


# --- the records that come with the project


def committed():
    listed = subprocess.run(
        ["git", "ls-files", "results/*.json"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode == 0:
        other = ("results/bench/", "results/claims.json")
        names = [n for n in listed.stdout.splitlines() if not n.startswith(other)]
        return sorted(ROOT / name for name in names)
    return sorted(
        p for part in ("study", "search") for p in (ROOT / "results" / part).rglob("*.json")
    )


def test_there_are_committed_records():
    assert committed()


@pytest.mark.parametrize("path", committed(), ids=lambda p: str(p.relative_to(ROOT / "results")))
def test_committed_records(path):
    """Each is whole, is where its content belongs, and comes from the experiment as it is now."""
    record = records.read(path)
    *_, profile, name, file = path.parts
    assert (record["profile"], record["experiment"]) == (profile, name)
    assert file == f"seed{record['seed']}.json"
    experiments = {e.name: e for e in study.experiments(profile)}
    if name in experiments:
        assert records.fits(record, experiments[name])
    if record.get("kind", "few-shot") != "few-shot":
        return
    curves = record["curves"]
    total = sum(record["tensors"].values())
    for i, sparsity in enumerate(curves["sparsity"]):
        frozen = sum(counts[i] for counts in curves["frozen"].values())
        assert sparsity == pytest.approx(frozen / total, abs=1e-12)
    assert curves["update"] == sorted(set(curves["update"]))
    best = curves["update"].index(record["final"]["best_update"])
    assert record["final"]["val_accuracy"] == curves["val_accuracy"][best]
    # the first searches were begun when the untrained network still counted
    if best or profile == "study":
        assert record["final"]["val_accuracy"] == max(curves["val_accuracy"][1:])
    else:
        assert record["final"]["val_accuracy"] == max(curves["val_accuracy"])
    tested = record["status"] == "finished" and record["parameters"]["test_tasks"] > 0
    assert (record["final"]["test_accuracy"] is not None) == tested


def test_a_record_under_another_seed_is_refused(tmp_path):
    """A copy of seed 0 must not count as seed 5."""
    (source,) = [p for p in committed() if p.parts[-2:] == ("fig1-omniglot-maml", "seed0.json")]
    experiment = study.find("study", "fig1-omniglot-maml")
    folder = tmp_path / "study" / experiment.name
    folder.mkdir(parents=True)
    (folder / "seed0.json").write_bytes(source.read_bytes())
    assert len(records.load(tmp_path, [experiment])) == 1
    (folder / "seed5.json").write_bytes(source.read_bytes())
    with pytest.raises(records.RecordError, match="seed 0"):
        records.load(tmp_path, [experiment])


def test_records_on_different_data_are_not_pooled(tmp_path):
    experiment = study.find("study", "fig1-omniglot-maml")
    for path in committed():
        if path.parts[-2] == experiment.name and "study" in path.parts[-3]:
            record = records.read(path)
            if record["seed"] == 1:
                record["data"]["fingerprint"] = "0" * 64
            del record["content_sha256"]
            records.write(tmp_path / "study" / experiment.name / path.name, record)
    with pytest.raises(records.RecordError, match="different data"):
        records.load(tmp_path, [experiment])


def on_data(name, size, fingerprint, **others):
    record = made_up_record(f"on-{name}-{fingerprint}", 3)
    record["parameters"]["image_size"] = size
    record["data"] |= {"name": name, "fingerprint": fingerprint}
    return record | {"final": record["final"] | ({"others": others} if others else {})}


HOME = on_data("miniimagenet", 32, "a", cub="c")


@pytest.mark.parametrize(
    "other",
    [
        on_data("miniimagenet", 32, "a"),  # an older record: what it was tested on is not known
        on_data("miniimagenet", 32, "a", cub="c", cars="d"),
        on_data("miniimagenet", 42, "b", cub="e"),
        on_data("omniglot", 32, "b", cub="c"),
        on_data("cub", 32, "c"),
    ],
)
def test_runs_on_the_same_data_can_be_compared(other):
    records.check_data([HOME, other])


@pytest.mark.parametrize(
    ("other", "what"),
    [
        (on_data("miniimagenet", 32, "b"), "miniimagenet"),
        (on_data("miniimagenet", 32, "a", cub="d"), "cub"),
        (on_data("cub", 32, "d"), "cub"),  # trained on what the other was only tested on
    ],
)
def test_runs_on_different_data_are_not_compared(other, what):
    for pair in ([HOME, other], [other, HOME]):
        first, second = (f"{r['experiment']} seed 3" for r in pair)
        says = f"{first} and {second} were made on different {what} at 32 pixels"
        with pytest.raises(records.RecordError, match=says):
            records.check_data(iter(pair))
