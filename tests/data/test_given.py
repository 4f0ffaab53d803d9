"""What is to be predicted is read as training data is: lines, tables, folders, columns, words."""

import logging

import pytest

from tlx.data.images.read import EXTENSIONS
from tlx.data.tables.given import paths_of
from tlx.data.text.given import parted, texts

TABLES = {"_target_": "tlx.data.text.table.text_csv"}
PAIRS = {**TABLES, "pair_column": "other"}
FOLDERS = {"_target_": "tlx.data.text.folder.text_folder"}
TAGGED = {"_target_": "tlx.data.text.conll.conll", "word_column": 1, "tag_column": -1}


def images(given, dataset):
    return paths_of(given, dataset, endings=EXTENSIONS, argument="image_column")


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A function that writes files in the working directory."""
    monkeypatch.chdir(tmp_path)

    def write(**contents):
        for name, content in contents.items():
            path = tmp_path / name.replace("__", "/").replace("_dot_", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())

    return write


def read(*inputs, dataset=TABLES, words=False, known=()):
    found = texts(inputs, dataset, words=words, known=known)
    return [(each.place, each.content) for each in found]


def test_lines_are_those_of_training(files):
    files(new_dot_txt="\ufefffine\nlovely\u2028nice\n\nawful\x0cpoor\n sad\x85dull \nlast\n")
    assert read("new.txt") == [
        ("new.txt:1", "fine"),
        ("new.txt:2", "lovely\u2028nice"),
        ("new.txt:4", "awful\x0cpoor"),
        ("new.txt:5", "sad\x85dull"),
        ("new.txt:6", "last"),
    ]
    files(old_dot_txt="café\n".encode("cp1252"), wide_dot_txt="a\nb".encode("utf-16"))
    assert read("wide.txt") == [("wide.txt:1", "a"), ("wide.txt:2", "b")]
    assert read("old.txt", dataset={**TABLES, "encoding": "cp1252"}) == [("old.txt:1", "café")]
    with pytest.raises(ValueError, match=r"old\.txt is not in utf-8: wrong bytes in line 1"):
        read("old.txt")


def test_texts_that_are_no_paths(files):
    long, chinese = "a fine and lovely text " * 12, "好" * 100
    inputs = [long, chinese, "x/" * 3000, "~nobody liked it", "read notes.txt", " a "]
    assert [content for _, content in read(*inputs)] == [text.strip() for text in inputs]
    for missing in ("gone.txt", "gone.csv", "a/gone.conll"):
        with pytest.raises(FileNotFoundError, match="does not exist"):
            read(missing)
    for empty in ("", " \n"):
        with pytest.raises(ValueError, match="text 2 is empty"):
            read("a", empty)


def test_hidden_files_are_not_read(files, caplog):
    files(**{"d__a_dot_txt": "one\ntwo", "d___dot_cache__b_dot_txt": "x", "d___dot_c_dot_txt": "x"})
    files(**{"d__e__f_dot_txt": "three", "d__notes_dot_md": "x"})
    with caplog.at_level(logging.WARNING):
        found = read("d")
    assert found == [("d/a.txt:1", "one"), ("d/a.txt:2", "two"), ("d/e/f.txt:1", "three")]
    assert "1 files are not used: 'd/notes.md'" in caplog.text
    names = ("a_dot_png", "_dot_b_dot_png", "_dot_thumbs__c_dot_png", "e__f_dot_JPG", "g_dot_txt")
    files(**{f"p__{name}": "" for name in names})
    assert list(map(str, images(["p"], {}))) == ["p/a.png", "p/e/f.JPG"]
    assert list(map(str, images(["p/.b.png"], {}))) == ["p/.b.png"]


def test_a_file_is_a_text_where_it_was(files):
    files(**{"d__a_dot_txt": "one\ntwo\n", "d__b_dot_txt": "three", "d__c_dot_md": "x"})
    assert read("d", dataset=FOLDERS) == [("d/a.txt", "one\ntwo"), ("d/b.txt", "three")]
    assert len(read("d", dataset={**FOLDERS, "ending": None})) == 3
    files(empty_dot_txt=" \n", t_dot_csv="text\na\n")
    with pytest.raises(ValueError, match=r"empty\.txt: no text"):
        read("empty.txt", dataset=FOLDERS)
    skipping = {**FOLDERS, "on_empty": "skip"}
    assert read("empty.txt", "t.csv", dataset=skipping) == [("t.csv:2", "a")]


def test_tables_need_no_labels(files):
    files(t_dot_csv='text;x\n"a; b";1\nc;2\n', j_dot_jsonl='{"text": "a"}\n')
    assert read("t.csv", "j.jsonl") == [("t.csv:2", "a; b"), ("t.csv:3", "c"), ("j.jsonl:1", "a")]
    files(bad_dot_csv='text\nb\n""\n"open\n', head_dot_csv="text,label\na,b\n")
    with pytest.raises(ValueError, match=r"bad\.csv:4: unexpected end of data"):
        read("bad.csv")
    with pytest.raises(ValueError, match=r"head\.csv:1 looks like the names of columns"):
        read("head.csv", dataset={**TABLES, "text_column": 0, "label_column": 1})
    files(p_dot_csv="path,label\nq/a.png,x\n")
    assert list(map(str, images(["p.csv"], {}))) == ["q/a.png"]
    assert list(map(str, images(["p.csv"], {"root": "r"}))) == ["r/q/a.png"]


def test_tables_of_other_endings_are_those_of_training(files, caplog):
    files(r_dot_txt="text\tlabel\na\tx\n", r_dot_data="text\nb, c\n", j_dot_json='{"text": "d"}')
    of = [("r.txt", "tsv", "a"), ("r.data", "tsv", "b, c"), ("j.json", "jsonl", "d")]
    for name, form, text in of:
        for where in (
            {"path": f"/gone/all.{name[2:]}"},
            {"root": "/gone", "train": f"a.{name[2:]}"},
        ):
            found = read(name, dataset={**TABLES, **where, "format": form})
            assert [content for _, content in found] == [text]
    assert len(read("r.txt", dataset={**TABLES, "root": "/gone", "format": "tsv"})) == 2
    files(d__r_dot_txt="text\tlabel\na\tx\n", d__s_dot_csv="text\ne\n")
    assert read("d", dataset={**TABLES, "path": "all.txt", "format": "tsv"})[0][1] == "a"
    files(t_dot_csv="text\tx\na, b\tx\n", none="text\nc\n", p_dot_txt="path label\nq/a.png x\n")
    assert read("t.csv", dataset={**TABLES, "root": "/gone", "format": "tsv"})[0][1] == "a, b"
    assert read("none", dataset={**TABLES, "path": "/gone/all", "format": "csv"})[0][1] == "c"
    listed = {"_target_": "tlx.data.images.table.image_csv", "path": "all.txt", "delimiter": " "}
    assert list(map(str, images(["p.txt"], listed))) == ["q/a.png"]


def test_tables_of_json_are_read_where_they_are_named(files, caplog):
    rows = '[{"data": {"text": "a"}}, {"data": {"text": "b"}}]'
    files(d__t_dot_json=rows, d__u_dot_csv="text\nc\n")
    inner = {**TABLES, "text_column": "data.text", "label_column": ["x", "y"]}
    assert read("d/t.json", dataset=inner) == [("d/t.json:1", "a"), ("d/t.json:2", "b")]
    assert read("d") == [("d/u.csv:2", "c")]  # of JSON is much that is no table
    assert "1 files are not used: 'd/t.json'" in caplog.text
    named = {**TABLES, "path": "/gone/all.json"}
    files(d__t_dot_json='[{"text": "a"}]')
    assert len(read("d", dataset=named)) == 2


def test_pairs_are_asked_for(files):
    files(t_dot_csv="text,other\na,b\n", one_dot_txt="a\n", o_dot_csv="text\na\n")
    assert read("t.csv", dataset=PAIRS) == [("t.csv:2", ("a", "b"))]
    for single in ("a text", "one.txt"):
        with pytest.raises(ValueError, match=r"pairs of texts .*'text' and 'other'"):
            read(single, dataset=PAIRS)
    with pytest.raises(ValueError, match="pair_column='other' is no column"):
        read("o.csv", dataset=PAIRS)


# -- words ----------------------------------------------------------------------------------------


def test_columns_are_read_as_in_training(files):
    content = "1\tNew\tB-loc\n2\tYork\tI-loc\n\n3\tis\tO\n"
    files(a_dot_conll=content, a_dot_txt=content, b_dot_conll="New\nYork\n\nis\n")
    for name in ("a.conll", "a.txt", "b.conll"):
        assert read(name, dataset=TAGGED, words=True) == [
            (f"{name}:1", ["New", "York"]),
            (f"{name}:4", ["is"]),
        ]
    files(c_dot_txt="New York is\nbig\n", d_dot_conll="1\ta\tO\nb\tO\n")
    assert read("c.txt", dataset=TAGGED, words=True) == [
        ("c.txt:1", ["New", "York", "is"]),
        ("c.txt:2", ["big"]),
    ]
    with pytest.raises(ValueError, match=r"d\.conll:2: columns: 2"):
        read("d.conll", dataset=TAGGED, words=True)


def test_files_of_corpora_are_read_from_their_folder(files, caplog):
    content = "-DOCSTART- -X- O\n\nNew NN B-loc\nYork NN I-loc\n"
    files(**{f"d__{name}": content for name in ("eng_dot_testb", "onto_dot_test_dot_ner")})
    files(d__train_dot_char_dot_bmes=content, d__notes_dot_md="x")
    found = read("d", dataset={**TAGGED, "word_column": 0}, words=True)
    assert found == [
        (f"d/{name}:3", ["New", "York"])
        for name in ("eng.testb", "onto.test.ner", "train.char.bmes")
    ]
    assert "1 files are not used: 'd/notes.md'" in caplog.text


def test_words_without_blanks():
    characters = [*"中国人很多", "A", "2"]
    assert parted("我在北京 a2", characters) == ["我", "在", "北", "京", "a", "2"]
    assert parted("我在北京 a2", [*"中国人很多", "BBC"]) == ["我", "在", "北", "京", "a2"]
    assert parted("我用Word写", [*"中国人很多", "BBC"]) == ["我", "用", "Word", "写"]
    words = ["中国", "人", "很", "多"]
    assert parted("北京 人", words) == ["北京", "人"]
    for known in (words, ()):
        with pytest.raises(ValueError, match="put blanks between words"):
            parted("我在北京很高兴", known)
    assert parted("ฉัน รัก", ["แมว", "รัก"]) == ["ฉัน", "รัก"]
    with pytest.raises(ValueError, match="at most 3 characters"):
        parted("ฉันรักแมว", ["แมว", "รัก"])
    assert parted("the CEO, 北京", ["the", "a"]) == ["the", "CEO,", "北京"]


def test_names_and_texts_that_are_not_in_utf8_are_refused_by_name(files):
    """As Python has them: their bytes as halves of characters, which no table can hold."""
    files(**{"z__caf\udce9_dot_png": b"", "z__caf\udce9_dot_txt": b"a text"})
    for given in ("z", "z/caf\udce9.png"):
        with pytest.raises(ValueError, match=r"caf\\udce9\.png.*convmv"):
            images([given], {})
    with pytest.raises(ValueError, match=r"caf\\udce9\.txt.*convmv"):
        texts(["z/caf\udce9.txt"], {}, words=False)
    with pytest.raises(ValueError, match=r"text 2 is not in UTF-8: .*caf\\udce9"):
        texts(["one", "a caf\udce9"], {}, words=False)
