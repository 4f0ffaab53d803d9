"""Tables of images and of texts are read by one reader: delimiters, encodings, quotes, labels."""

import io
import json
import logging
import warnings

import numpy as np
import pandas
import pytest
from PIL import Image

from tlx.data.images.read import EXTENSIONS
from tlx.data.images.table import image_csv
from tlx.data.splits import Labels
from tlx.data.tables.given import paths_of
from tlx.data.text.table import text_csv

N = 12


@pytest.fixture(autouse=True)
def pictures(tmp_path):
    """Images 0.png to 11.png, unlike one another."""
    pixels = np.random.default_rng(0).integers(0, 256, (N, 4, 5, 3), dtype=np.uint8)
    for i, each in enumerate(pixels):
        Image.fromarray(each).save(tmp_path / f"{i}.png")


@pytest.fixture(params=["images", "texts"])
def reader(request, tmp_path):
    """Reads a table by either source; gives what it says of itself and its classes."""

    def read(content, name="t.csv", **keys):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        if request.param == "images":
            return image_csv(path=str(path), image_column="item", **keys)
        return text_csv(path=str(path), text_column="item", **keys)

    return read


def lines(labels, *, between=",", head=True):
    rows = [f"{i}.png{between}{label}" for i, label in enumerate(labels)]
    return "\n".join([f"item{between}label"] * head + rows) + "\n"


def refusal(read, *args, **keys):
    with pytest.raises(ValueError, match=r".") as error:
        read(*args, **keys)
    return str(error.value)


AB = ["a", "b"] * 6


# -- one reader -----------------------------------------------------------------------------------


@pytest.mark.parametrize("between", [";", "\t", "|"])
@pytest.mark.parametrize("name", ["t.csv", "t.tsv"])
def test_delimiters_are_found(reader, between, name, caplog):
    with caplog.at_level(logging.WARNING):
        made = reader(lines(AB, between=between), name)
    assert made.labels.names == ("a", "b")
    usual = (name, between) == ("t.tsv", "\t")
    assert ("fields are parted by" in caplog.text) != usual
    made = reader("sep=;\n" + lines(AB, between=";"), name)
    assert made.labels.names == ("a", "b")
    assert "parted by ','" in refusal(reader, lines(AB, between="~"))
    assert reader(lines(AB, between="~"), delimiter="~").labels.names == ("a", "b")
    assert "dataset.delimiter='~~'" in refusal(reader, lines(AB), delimiter="~~")


def test_delimiters_are_found_by_position(tmp_path):
    (tmp_path / "t.csv").write_text(
        "".join(f"one, two{' more,' * i};{'ab'[i % 2]}\n" for i in range(20))
    )
    made = text_csv(path=str(tmp_path / "t.csv"), text_column=0, label_column=1)
    assert made.labels.names == ("a", "b")
    assert "one, two" in {*made.train.inputs, *made.val.inputs, *made.test.inputs}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32", "cp1252", "gb18030"])
def test_encodings(reader, encoding, caplog):
    content = lines(["é", "b"] * 6).encode(encoding)
    if not encoding.startswith("utf"):
        assert "not in utf-8: wrong bytes in lines 2, 4" in refusal(reader, content)
        with caplog.at_level(logging.WARNING):
            assert reader(lines(["é", "b"] * 6), encoding=encoding)
        assert "is UTF-8 by its bytes" in caplog.text
        assert reader(content, encoding=encoding).labels.names == ("b", "é")
        return
    assert reader(content).labels.names == ("b", "é")
    assert "by its byte order mark, and dataset.encoding" in refusal(
        reader, content, encoding="cp1252"
    )


def test_utf_16_without_a_mark_is_no_utf_8(reader):
    content = lines(AB).encode("utf-16-le")
    assert "full of null characters" in refusal(reader, content)
    assert reader(content, encoding="utf-16-le").labels.names == ("a", "b")


def test_old_ends_of_lines(reader):
    assert reader(lines(AB).replace("\n", "\r")).labels.names == ("a", "b")
    assert reader(lines(AB).replace("\n", "\r\n")).labels.names == ("a", "b")


def test_quotes_that_do_not_close(reader):
    labels = [*AB[:6], '"a', *AB[7:]]
    assert "t.csv:8: unexpected end of data" in refusal(reader, lines(labels))
    # a second one ends what the first began
    closed = refusal(reader, lines([*labels[:10], 'a"', "b"]))
    assert "t.csv:8: a quoted field goes on over 5 lines that look like rows" in closed
    assert reader(lines(labels), quoting="none").labels.names == ('"a', "a", "b")


@pytest.mark.parametrize("kind", ["real", "multi"])
def test_quotes_that_close_later_over_numbers_and_no_labels(tmp_path, kind):
    rows = [f"text {i},{i / 2 if kind == 'real' else 'ab'[i % 2] * (i % 3 > 0)}" for i in range(30)]
    rows[3], rows[15] = f'"{rows[3]}', rows[15].replace(",", '",')
    (tmp_path / "t.csv").write_text("\n".join(["text,label", *rows]))
    assert "t.csv:5: a quoted field goes on over 13 lines that look like rows" in refusal(
        text_csv, path=str(tmp_path / "t.csv"), kind=kind
    )


def test_lines_that_end_in_numbers_are_no_rows(tmp_path):
    rows = "\n".join(f'"flour, {i}\nsalt",{i / 2}' for i in range(20))
    (tmp_path / "t.csv").write_text(f"text,label\n{rows}\n")
    assert len(text_csv(path=str(tmp_path / "t.csv"), kind="real").train) == 14


def test_texts_of_several_lines_are_no_rows(tmp_path):
    for head, row in (
        ("text,label", '"one {0}, {1}\ntwo, {1}\n{0}",{1}'),
        ("label,text", '{1},"one {0}\ntwo"'),
    ):
        rows = "\n".join(row.format(i, "ab"[i % 2]) for i in range(20))
        (tmp_path / "t.csv").write_text(f"{head}\n{rows}\n")
        assert sum(map(len, (made := text_csv(path=str(tmp_path / "t.csv"))).train.inputs)) > 20
        assert made.labels.names == ("a", "b")


def test_fields_too_many_and_too_few(reader):
    said = refusal(reader, lines([*AB[:9], "a,b", "b"]) + "11.png\n")
    assert "t.csv:11: 3 fields, and there are 2 columns" in said
    assert "t.csv:13: 1 fields" in said


def test_classes_that_train_lacks_are_named_by_line(reader):
    rows = lines([f"{label},train" for label in AB[:10]] + ["a|c,test", "d,val"]).replace(
        "label", "label,split", 1
    )
    for kind in ("single", "multi"):
        said = refusal(reader, rows, kind=kind)
        assert "t.csv:13: label 'd' is in no line of train" in said


@pytest.mark.parametrize("name", ["t.jsonl", "t.parquet"])
def test_typed_formats_of_images(tmp_path, name):
    rows = [{"path": f"{i}.png", "label": i % 2} for i in range(N)]
    if name == "t.jsonl":
        (tmp_path / name).write_text("\n".join(map(json.dumps, rows)))
    else:
        pyarrow = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / name)
    made = image_csv(path=str(tmp_path / name))
    assert made.labels.names == ("0", "1")
    assert made.train[0]["input"].size == (5, 4)


def test_one_character_for_fields_and_labels(reader):
    assert "parts the fields, and the labels too" in refusal(
        reader, lines(AB, between="|"), kind="multi"
    )
    assert reader(lines(["a,b", "b"] * 6, between="|"), kind="multi", separator=",")


# -- JSON -----------------------------------------------------------------------------------------

ROWS = [{"item": f"{i}.png", "label": "ab"[i % 2], "of": {"who": [f"{i % 3}"]}} for i in range(N)]
FRAME = pandas.DataFrame(ROWS)


@pytest.mark.parametrize(
    "content",
    [
        json.dumps(ROWS),
        json.dumps(ROWS, indent=2),
        FRAME.to_json(orient="records"),
        FRAME.to_json(orient="columns"),
        FRAME.to_json(orient="records", lines=True),
        json.dumps(FRAME.to_dict(orient="list")),
        json.dumps({"version": 1, "data": ROWS}),
    ],
    ids=["list", "indented", "records", "columns", "lines", "lists", "within an object"],
)
def test_json_is_read_as_pandas_writes_it(reader, content):
    made = reader(content, "t.json", val_fraction=0.2, test_fraction=0.2)
    assert made.labels.names == ("a", "b")
    rows = {}
    for split in (made.train, made.val, made.test):
        for i, each in enumerate(split.ids):
            name = each if each.endswith(".png") else split.inputs[i]
            rows[name] = made.labels.names[split.targets[i]]
    assert rows == dict(zip(FRAME["item"], FRAME["label"], strict=True))


@pytest.mark.parametrize("name", ["t.json", "t.jsonl", "t.parquet"])
def test_fields_within_fields(tmp_path, reader, name):
    rows = [{"meta": {"label": row["label"], "tags": [row["label"]]}, **row} for row in ROWS]
    if name == "t.parquet":
        pyarrow = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / name)
        content = (tmp_path / name).read_bytes()
    else:
        content = json.dumps(rows) if name == "t.json" else "\n".join(map(json.dumps, rows))
    flat = pandas.json_normalize(rows)
    for column in ("meta.label", "of.who", "meta.tags.0"):
        made = reader(content, name, label_column=column, kind="multi")
        names = {str(v) for cell in flat.get(column, flat["label"]) for v in cell}
        assert made.labels.names == tuple(sorted(names))
    assert "'meta.lable' is no column" in refusal(reader, content, name, label_column="meta.lable")


def test_a_name_with_a_dot_comes_before_a_way(reader):
    rows = [{"item": f"{i}.png", "a.b": "xy"[i % 2], "a": {"b": "z"}} for i in range(N)]
    assert reader(json.dumps(rows), "t.json", label_column="a.b").labels.names == ("x", "y")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('[{"item": "0.png"},', "t.json:1: no JSON"),
        ('[{"item": "0.png", "item": "1.png"}]', "'item' is there twice"),
        ('{"a": [{"x": 1}], "b": [{"x": 1}]}', "holds several lists of objects: a, b"),
        ('{"a": {"x": 1}, "b": {"y": 1}}', "is no table: give a list of objects"),
        ('"a"', "is no table: give a list of objects"),
        ("[]", "is empty"),
        (json.dumps([*ROWS, 3]), "t.json:13: no object"),
        ("\n".join([*map(json.dumps, ROWS), "{"]), "t.json:13: no JSON"),
    ],
)
def test_json_that_is_no_table_is_refused(reader, content, says):
    assert says in refusal(reader, content, "t.json")


def test_a_list_is_no_json_lines(reader):
    assert "set dataset.format=json" in refusal(reader, json.dumps(ROWS), "t.jsonl")
    assert reader(json.dumps(ROWS), "t.jsonl", format="json").labels.names == ("a", "b")


# -- separators at the ends of lines --------------------------------------------------------------


@pytest.mark.parametrize("between", [",", ";", "\t"])
@pytest.mark.parametrize(("head", "row"), [(1, 1), (0, 1), (1, 0), (2, 2), (0, 2), (2, 1)])
def test_separators_at_the_ends_of_lines(reader, between, head, row):
    first, *rest = lines(AB, between=between).splitlines()
    content = "\n".join([first + between * head, *(each + between * row for each in rest)])
    made = reader(content, delimiter=between)
    assert made.labels.names == ("a", "b")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of fields beyond the names
        frame = pandas.read_csv(io.StringIO(content), sep=between, index_col=False)
    assert set(frame["label"]) == {"a", "b"}
    assert sum(map(len, (made.train, made.val, made.test))) == len(frame) == N


def test_separators_at_the_end_of_some_lines_are_fields(reader):
    rows = lines(AB).splitlines()
    rows[4] += ","
    assert "t.csv:5: 3 fields, and there are 2 columns" in refusal(reader, "\n".join(rows))
    short = [f"{rows[0]},", *rows[1:5], "9.png", *rows[6:]]
    assert "t.csv:6: 1 fields" in refusal(reader, "\n".join(short))
    full = [f"{rows[0]},", *(f"{each},x" for each in rows[1:4]), *rows[5:]]
    assert "t.csv:5: 2 fields, and there are 3" in refusal(reader, "\n".join(full))


# -- labels in several columns --------------------------------------------------------------------


def spread(names, rows):
    return "\n".join(
        [f"item,{','.join(names)}", *(f"{i}.png,{','.join(map(str, r))}" for i, r in rows)]
    )


@pytest.mark.parametrize("ones", [(0, 1), ("0.0", "1.0"), ("False", "True")])
def test_columns_of_0_and_1_are_classes(reader, ones):
    names = ["cat", "ant", "bee"]
    rows = [(i, [ones[i % 3 == j] for j in range(3)]) for i in range(N)]
    made = reader(spread(names, rows), label_column=names)
    assert made.labels == Labels("single", ("ant", "bee", "cat"))
    frame = pandas.read_csv(io.StringIO(spread(names, rows)))
    truth = pandas.from_dummies(frame[names].astype(float).astype(int))[""]
    for split in (made.train, made.val, made.test):
        for each, target in zip(split.ids, split.targets, strict=True):
            row = int(each.removeprefix("t.csv:")) - 2 if "t.csv" in each else int(each[:-4])
            assert made.labels.names[target] == truth[row]


def test_columns_of_0_and_1_are_any_number_of_labels(reader):
    names = ["cat", "ant", "bee"]
    rows = [(i, [i % 2, (i // 2) % 2, (i + 1) % 2]) for i in range(N)]
    made = reader(spread(names, rows), label_column=names, kind="multi")
    assert made.labels == Labels("multi", ("ant", "bee", "cat"))
    for split in (made.train, made.val, made.test):
        for each, target in zip(split.ids, split.targets, strict=True):
            row = int(each.removeprefix("t.csv:")) - 2 if "t.csv" in each else int(each[:-4])
            cat, ant, bee = rows[row][1]
            assert target == (ant, bee, cat)


def test_several_columns_of_numbers(reader):
    rows = [(i, [i / 2, -i]) for i in range(N)]
    made = reader(spread(["x", "y"], rows), label_column=["x", "y"], kind="real")
    assert made.labels == Labels("real", ("x", "y"))
    assert set(made.train.targets) <= {(i / 2, -float(i)) for i in range(N)}


def test_rows_of_several_columns_that_are_wrong_are_listed(reader):
    names = ["cat", "ant"]
    rows = [(i, [i % 2, 1 - i % 2]) for i in range(N)]
    rows[1], rows[2], rows[3] = (1, [1, 1]), (2, [0, 0]), (3, ["", 2])
    said = refusal(reader, spread(names, rows), label_column=names)
    for line in (
        "t.csv:3: cat and ant are 1; kind=single has one class a row",
        "t.csv:4: no label column is 1",
        "t.csv:5: cat is '', and neither 0 nor 1",
    ):
        assert line in said
    content = spread(names, [(i, [i % 2, 1 - i % 2]) for i in range(N)])
    assert "each of them once" in refusal(reader, content, label_column=["cat", "cat"])
    assert "'dog' is no column" in refusal(reader, content, label_column=["cat", "dog"])
    open_quotes = content.replace("2.png,0,1", '"2.png,0,1').replace("6.png,0,1", '6.png",0,1')
    assert "t.csv:4: a quoted field goes on over 5 lines" in refusal(
        reader, open_quotes, label_column=names
    )


# -- paths of Windows -----------------------------------------------------------------------------


def test_paths_of_windows(tmp_path):
    (tmp_path / "in" / "deep").mkdir(parents=True)
    for i in range(N):
        place = tmp_path / "in" / "deep" / f"{i}.png"
        (tmp_path / f"{i}.png").rename(place)
    (tmp_path / "in" / "deep" / "3.png").rename(tmp_path / "odd\\3.png")
    rows = [
        "odd\\3.png" if i == 3 else (f"in\\deep\\{i}.png" if i % 2 else f".\\in/deep\\{i}.png")
        for i in range(N)
    ]
    table = tmp_path / "t.csv"
    table.write_text("path,label\n" + "".join(f"{r},{'ab'[i % 2]}\n" for i, r in enumerate(rows)))
    made = image_csv(path=str(table))
    ids = {*made.train.ids, *made.val.ids, *made.test.ids}
    assert ids == {"odd\\3.png" if i == 3 else f"in/deep/{i}.png" for i in range(N)}
    found = paths_of(
        [str(table)],
        {"_target_": "tlx.data.images.table.image_csv", "path": str(table)},
        endings=EXTENSIONS,
        argument="image_column",
    )
    assert all(path.is_file() for path in found)
    assert len(found) == N
    table.write_text("path,label\nin\\deep\\99.png,a\n")
    with pytest.raises(ValueError, match=r"in\\deep\\99\.png"):
        image_csv(path=str(table))


# -- labels that are missing -----------------------------------------------------------------------


@pytest.mark.parametrize("word", ["nan", "NaN", "None", "null", "NA", "<NA>", " ", "\u200b"])
def test_words_for_nothing_are_no_classes(reader, word):
    labels = [*AB[:9], word, "a", "b"]
    for kind in ("single", "multi"):
        if kind == "multi" and word == " ":
            continue  # an empty field: no label at all
        assert "t.csv:11: label" in (said := refusal(reader, lines(labels), kind=kind))
        assert ("dataset.missing=[]" in said) == word.isalpha() or word == "<NA>"
    if word.isalpha():
        many = lines([word, "b"] * 6)
        assert reader(many, missing=[]).labels.names == tuple(sorted([word, "b"]))
    assert "label '?'" in refusal(reader, lines([*AB[:9], "?", "a", "b"]), missing=["?"])


def test_none_is_a_word(reader):
    assert reader(lines(["none", "severe"] * 6)).labels.names == ("none", "severe")


@pytest.mark.parametrize("nothing", ["NaN", "null", '"nan"', '""', '" "', "[]", "{}", None])
def test_missing_labels_of_json_lines(reader, nothing):
    rows = [f'{{"item": "{i}.png", "label": "{"ab"[i % 2]}"}}' for i in range(N)]
    rows[4] = '{"item": "4.png"}' if nothing is None else f'{{"item": "4.png", "label": {nothing}}}'
    assert "t.jsonl:5: label" in refusal(reader, "\n".join(rows), "t.jsonl")
    if nothing not in ('""', '" "', "[]"):  # no label at all, said as such
        assert "t.jsonl:5: label" in refusal(reader, "\n".join(rows), "t.jsonl", kind="multi")
    rows[4] = '{"item": "4.png", "label": ["a", NaN]}'
    assert "t.jsonl:5: label" in refusal(reader, "\n".join(rows), "t.jsonl", kind="multi")


def test_missing_labels_of_parquet(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    for labels in ([1.0, float("nan")], [1, None], ["a", None], ["a", "nan"]):
        table = {"text": [f"text {i}" for i in range(8)], "label": labels * 4}
        parquet.write_table(pyarrow.table(table), tmp_path / "t.parquet")
        assert "t.parquet:2: label" in refusal(text_csv, path=str(tmp_path / "t.parquet"))


def test_bytes_are_no_labels(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    table = {"text": [f"text {i}" for i in range(8)], "label": [b"a", b"b"] * 4}
    parquet.write_table(pyarrow.table(table), tmp_path / "t.parquet")
    assert "t.parquet:1: label b'a' is no class" in refusal(
        text_csv, path=str(tmp_path / "t.parquet")
    )


def test_keys_that_are_twice_in_json_are_refused(reader):
    rows = [f'{{"item": "{i}.png", "label": "{"ab"[i % 2]}"}}' for i in range(N)]
    rows[2] = '{"item": "2.png", "label": "a", "label": "b"}'
    assert "t.jsonl:3: no JSON: 'label' is there twice" in refusal(
        reader, "\n".join(rows), "t.jsonl"
    )


# -- labels that are written in two ways -----------------------------------------------------------

ALIKE = {
    "numbers": ("1", "1.0"),
    "zeros": ("01", "1"),
    "forms": ("caf\u00e9", "cafe\u0301"),
    "zero width": ("a", "a\u200b"),
    "soft hyphen": ("ab", "a\u00adb"),
    "mark": ("a", "\ufeffa"),
    "blanks within": ("a b", "a\u00a0b"),
    "cyrillic": ("ac", "a\u0441"),
    "dashes": ("a-b", "a\u2013b"),
    "wide": ("A1", "\uff21\uff11"),
    "quotes": ("a", " 'a'"),
    "truth": ("True", "true"),
    "greek": ("AB", "A\u0392"),
    "ligature": ("fine", "\ufb01ne"),
    "roman": ("IV", "\u2163"),
    "micro": ("\u00b5m", "\u03bcm"),
    "digits": ("12", "\u0661\u0662"),
    "decimal comma": ("1.5", '"1,5"'),
    "infinite": ("inf", "Infinity"),
}


@pytest.mark.parametrize("pair", ALIKE.values(), ids=ALIKE)
def test_one_label_in_two_spellings(reader, pair):
    first, second = pair
    content = lines([first, "b", first, "c", second, "b", "c", first, "b", "c", first, "b"])
    said, read = refusal(reader, content), second.strip().strip('"')
    assert f"t.csv:2, t.csv:6: labels {first!a} and {read!a} look the same" in said
    assert reader(content, on_alike="merge").labels.names == tuple(sorted([first, "b", "c"]))
    assert len(reader(content, on_alike="keep", fraction=1.0).labels.names) == 4


def test_labels_that_only_seem_alike(reader, caplog):
    pairs = (["a", "a."], ["1.10", "1.11"], ["x2", "x²"], ["cafe", "caf\u00e9"], ["è", "é"])
    for labels in (*pairs, ["1", "\u2460"], ["fish", "f\u0131sh"], ["1", '"1,000"']):
        assert reader(lines(labels * 6)).labels.names == tuple(each.strip('"') for each in labels)
    with caplog.at_level(logging.WARNING):
        assert reader(lines(["a", "A"] * 6)).labels.names == ("A", "a")
    assert "'a' (t.csv:2), 'A' (t.csv:3)" in caplog.text


def test_typed_labels_in_two_spellings(reader):
    rows = [f'{{"item": "{i}.png", "label": {i % 2}}}' for i in range(N)]
    rows[3] = '{"item": "3.png", "label": "1"}'
    assert reader("\n".join(rows), "t.jsonl").labels.names == ("0", "1")
    rows[5] = '{"item": "5.png", "label": 1.0}'
    assert "t.jsonl:2, t.jsonl:6: labels '1' and '1.0'" in refusal(
        reader, "\n".join(rows), "t.jsonl"
    )
    rows = [f'{{"item": "{i}.png", "label": {["true", "false"][i % 2]}}}' for i in range(N)]
    assert reader("\n".join(rows), "t.jsonl").labels.names == ("False", "True")


# -- lines of names --------------------------------------------------------------------------------


def test_a_line_of_names_is_no_text(tmp_path):
    keys = {"root": str(tmp_path), "text_column": 0, "label_column": 1}
    for head in ("sentence\tlabel", "utt\tcls"):
        for name in ("train", "test"):
            rows = "".join(f"text {i}\t{i % 2}\n" for i in range(20))
            (tmp_path / f"{name}.tsv").write_text(f"{head}\n{rows}")
        said = refusal(text_csv, **keys)
        assert "train.tsv:1: looks like the names of columns; set dataset.header" in said
        assert "test.tsv:1" in said
        assert text_csv(**keys, header=True).labels.names == ("0", "1")
        assert len(text_csv(**keys, header=False).labels.names) == 3


@pytest.mark.parametrize(
    "head", ["tweet_text,airline_sentiment", "reviewText,overall", "Satz,Klasse", "0,1", ",0"]
)
def test_lines_of_names_of_any_kind(tmp_path, head):
    keys = {"path": str(tmp_path / "t.csv"), "text_column": 0, "label_column": 1}
    labels = "01" if head == "0,1" else ("good", "bad")
    rows = "".join(f"a text {i},{labels[i % 2]}\n" for i in range(20))
    if head == ",0":
        head, keys["text_column"], keys["label_column"] = ",0,1", 1, 2
        rows = "".join(f"{i},a text {i},{i % 2}\n" for i in range(20))
    (tmp_path / "t.csv").write_text(f"{head}\n{rows}")
    assert "t.csv:1: looks like the" in refusal(text_csv, **keys)
    assert len(text_csv(**keys, header=True).labels.names) == 2
    assert text_csv(**keys, header=False)


def test_a_text_is_no_line_of_names(tmp_path):
    (tmp_path / "t.csv").write_text("".join(f"text {i},{i % 2}\n" for i in range(20)))
    keys = {"path": str(tmp_path / "t.csv"), "text_column": 0, "label_column": 1}
    assert "t.csv:1: was taken for names" in refusal(text_csv, **keys, header=True)
    assert "t.csv:1: was taken for names" in refusal(text_csv, **keys, header=True, kind="real")
    assert len(text_csv(**keys).train) == 14


def test_names_once_more(reader):
    assert "t.csv:8: the names of the columns once more" in refusal(
        reader, lines(AB[:6]) + lines(AB[6:])
    )
