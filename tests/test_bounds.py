"""Files that stand for more than they hold are refused before they are read, with the bound."""

import json
import time
import zipfile

import pytest
import torch
import yaml
from safetensors.torch import save_file

from tlx.backbones.transformers.sources import WeightsSource, config_of, tokenizer_of
from tlx.backbones.weights import files as weights
from tlx.base import bounds
from tlx.config.check import CheckError
from tlx.config.compose import compose
from tlx.data.tables import rows as text_rows
from tlx.execution import runs

ALIASES = "\n".join(
    ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 8)]
)
DEEP = "a: " + "[" * 3000 + "]" * 3000
WIDE = "\n".join(f"k{i}: {i}" for i in range(200_000))
MERGES = (
    "base: &base {"
    + ", ".join(f"k{i}: 1" for i in range(300))
    + "}\n"
    + "\n".join(f"m{i}: {{<<: *base}}" for i in range(300))
)
INSIDE = "a: &a [1, *a]"
YAMLS = {
    "aliases": (ALIASES, "50,000 values, aliases written out"),
    "depth": (DEEP, "nested more than 50 deep"),
    "keys": (WIDE, "50,000 values"),
    "merges": (MERGES, "50,000 values"),
    "itself": (INSIDE, "stands inside of what it stands for"),
    "size": ("a: '" + "x" * 4_000_001 + "'", "at most 4,000,000 are read"),
}


@pytest.mark.parametrize("kind", YAMLS)
def test_yaml_of_somebody_else_is_bounded(kind, tmp_path):
    text, bound = YAMLS[kind]
    folder = tmp_path / "own" / "experiment"
    folder.mkdir(parents=True)
    (folder / "shared.yaml").write_text(f"defaults:\n  - _self_\nstudy:\n  {_indented(text)}\n")
    began = time.process_time()
    with pytest.raises(CheckError) as caught:
        compose(["experiment=shared"], tmp_path / "own")
    assert bound in str(caught.value)
    assert "shared.yaml" in str(caught.value)
    (tmp_path / runs.CONFIG).write_text(text)
    with pytest.raises(bounds.TooMuch, match=r"config\.yaml"):
        runs.read_config(tmp_path)
    assert time.process_time() - began < 20


def _indented(text):
    return text.replace("\n", "\n  ")


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [1, 2]\nb: *a\nc: {d: *a}",
        "a: &a {x: 1}\nb: {<<: *a, y: 2}",
        yaml.safe_dump({"classes": [f"class {i}" for i in range(22_000)]}),
        "",
        "a: " + "[" * 40 + "]" * 40,
        "- 1\n---\n- 2",
    ],
)
def test_usual_yaml_passes(text):
    bounds.require_yaml(text, "here")


@pytest.mark.parametrize(
    "text", ["name=" + "[" * 3000 + "]" * 3000, "name=[" + "x," * 150_000 + "x]"]
)
def test_overrides_are_bounded(text):
    with pytest.raises(CheckError, match="nested at most 50 deep"):
        compose([text])


def test_packed_weights_are_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(bounds, "FREE_BYTES", 1_000_000)
    plain, packed = tmp_path / "plain.pth", tmp_path / "packed.pth"
    torch.save({"a": torch.zeros(2_000_000)}, plain)
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as to:
        for name in source.namelist():
            to.writestr(name, source.read(name))
    assert packed.stat().st_size < 100_000
    with pytest.raises(ValueError, match=r"unpacks to 8,\d+,\d+; at most 4 times"):
        weights.load(torch.nn.Linear(1, 1), packed)
    with pytest.raises(CheckError, match=r"backbone\.init: .*unpacks to"):
        compose([f"backbone.init={packed}"])
    bounds.require_unpacked(plain)


def test_a_pickle_in_weights_that_is_packed_is_not_read(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", b"\x80\x02" + b"N0" * 60_000_000)
    began = time.process_time()
    with pytest.raises(CheckError, match="unpacks to 120,000,002"):
        compose([f"backbone.init={tmp_path / 'a.pth'}"])
    assert time.process_time() - began < 10


def _aliased(make, inner):
    for _ in range(60):
        inner = make(inner)
    return inner


def _self_holding():
    held = {f"k{i}": None for i in range(300)}
    held.update(dict.fromkeys(held, held))
    return held


@pytest.mark.filterwarnings("ignore:Validating sparse tensor")
@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"a": torch.zeros(1).expand(200_000, 200_000)}, "stand for 160,000,000,000"),
        (
            {
                "a": torch.sparse_coo_tensor(
                    [[0], [0]], [1.0], (200_000, 200_000), check_invariants=True
                )
            },
            "a is a sparse tensor",
        ),
        ({"a": torch.empty(200_000, 200_000, device="meta")}, "stand for 160,000,000,000"),
        ({"a": _aliased(lambda x: [x, x], [1.0])}, "or none at all"),
        ({"a" * 2000: torch.zeros(1)}, "a name of 2,000 characters"),
        (_self_holding(), "or none at all"),
    ],
    ids=["expanded", "sparse", "meta", "lists", "name", "mappings"],
)
def test_weights_that_stand_for_more_than_they_hold_are_refused(content, said, tmp_path):
    path = tmp_path / "w.pth"
    torch.save(content, path)
    assert path.stat().st_size < 100_000
    with pytest.raises((weights.WeightsError, bounds.TooMuch), match=said):
        weights.content_id(path)


def test_tied_weights_are_counted_once(tmp_path):
    path, tensor = tmp_path / "w.pth", torch.zeros(6_000_000)
    torch.save({f"k{i}": tensor for i in range(6)}, path)
    assert weights.content_id(path)


def test_weights_of_endless_names_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(bounds, "MOST_TENSORS", 10)
    path = tmp_path / "w.safetensors"
    save_file({f"k{i}": torch.zeros(1) for i in range(11)}, path)
    with pytest.raises(bounds.TooMuch, match="has 11 tensors; at most 10"):
        weights.content_id(path)


def test_a_pickle_that_asks_for_bytes_is_refused_by_the_check(tmp_path):
    path = tmp_path / "w.pth"
    path.write_bytes(b"\x80\x02c__builtin__\nbytearray\n(J\xff\xff\xff\x7ftR.")
    with pytest.raises(CheckError, match="bytearray"):
        compose(
            [
                "dataset=digits",
                "backbone=timm",
                "backbone.name=test_resnet",
                f"backbone.init={path}",
            ]
        )


def test_a_header_of_absurd_length_is_no_safetensors(tmp_path):
    path = tmp_path / "a.safetensors"
    save_file({"a": torch.zeros(3)}, path)
    path.write_bytes((1 << 62).to_bytes(8, "little") + path.read_bytes()[8:])
    with pytest.raises(ValueError, match="no intact safetensors"):
        weights.load(torch.nn.Linear(1, 1), path)


def bert(folder, **entries):
    from transformers import BertConfig

    small = BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, vocab_size=50)
    small.save_pretrained(folder)
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))
    return WeightsSource(str(folder), "folder")


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ({"hidden_size": 10**9}, "hidden_size is 1,000,000,000; at most 10,000,000"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers is 1,000,000,000; at most 1,000"),
        ({"vocab_size": 10**12}, "vocab_size is 1,000,000,000,000; at most"),
        ({"text_config": {"num_attention_heads": 10**8}}, "text_config: num_attention_heads is"),
        ({"conv_dim": [8, 10**9]}, "conv_dim is 1,000,000,000"),
    ],
)
def test_numbers_of_a_network_are_bounded(entries, said, tmp_path):
    with pytest.raises(bounds.TooMuch, match=said):
        config_of(bert(tmp_path, **entries), {}, tokenizer=None)
    config_of(bert(tmp_path), {}, tokenizer=None)


def test_entries_of_kwargs_are_bounded_too(tmp_path):
    with pytest.raises(bounds.TooMuch, match=r"backbone\.kwargs: num_hidden_layers"):
        config_of(bert(tmp_path), {"num_hidden_layers": 10**9}, tokenizer=None)


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json"])
def test_json_without_end_is_refused(file, tmp_path):
    source = bert(tmp_path)
    (tmp_path / file).write_text('{"a": ' + "[" * 100_000 + "]" * 100_000 + "}")
    with pytest.raises(bounds.TooMuch, match=f"{file} is nested too deep"):
        tokenizer_of(source) if file == "tokenizer.json" else config_of(source, {}, tokenizer=None)


def test_json_has_a_size(tmp_path, monkeypatch):
    monkeypatch.setattr(bounds, "MOST_JSON_BYTES", 10)
    (tmp_path / "a.json").write_text('{"key": "value"}')
    with pytest.raises(bounds.TooMuch, match="16 bytes; at most 10"):
        bounds.read_json(tmp_path / "a.json")


def test_what_does_not_fit_into_memory_is_refused():
    bounds.require_memory(1000, "this bert")
    with pytest.raises(bounds.TooMuch, match=r"this bert needs 1,000,000\.0 GiB; this machine has"):
        bounds.require_memory(2**30 * 10**6, "this bert")


def table(path):
    return text_rows.read(path, format=None, header=True, quoting="csv", encoding="utf-8")


def test_a_line_of_json_without_end_is_listed(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1}\n{"a": ' + "[" * 100_000 + "]" * 100_000 + "}\n")
    found = table(path)
    assert found.wrong == ["a.jsonl:2: JSON that is nested too deep to be read"]
    assert len(found.rows) == 1


def test_parquet_that_unpacks_without_end_is_refused(tmp_path, monkeypatch):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = tmp_path / "a.parquet"
    rows = pyarrow.table({"text": pyarrow.array(["x" * 10_000] * 3_000), "n": range(3_000)})
    parquet.write_table(rows, path)
    assert path.stat().st_size < 300_000
    assert len(table(path).rows) == 3_000
    monkeypatch.setattr(text_rows, "MOST_BYTES", 15_000_000)
    with pytest.raises(ValueError, match="unpacks to more than 15,000,000"):
        table(path)
