"""The embedded corpus: bounds on this machine, the same bytes from anywhere, and installations that are hostile."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gneiss.demo.harvest import (
    FILE_MAX_BYTES,
    PAGE_MAX_CHARACTERS,
    PAGE_MIN_CHARACTERS,
    Document,
    Roots,
    clean,
    harvest,
    html_text,
    kind_of,
    pages,
    required,
)
from gneiss.demo.sample import MANIFEST, REQUIREMENTS, SCHEMA, Manifest, write_sample
from gneiss.errors import InputError, OutputError

PROSE = "This is a sentence of the text that is to be read by the harvest and kept in a page.\n" * 4
KINDS = ("description", "docstring", "html", "licence", "text")


@pytest.fixture(scope="module", params=["few", pytest.param("all", marks=pytest.mark.exhaustive)])
def sample(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest]:
    """A folder and its manifest: that of the tests' demo, or of all packages."""
    if request.param == "few":
        few: Path = request.getfixturevalue("demo") / "sample"
        return few, Manifest(**json.loads((few / MANIFEST).read_text()))
    folder = tmp_path_factory.mktemp("sample")
    return folder, write_sample(folder)


def read(folder: Path) -> pa.Table:
    return pa.concat_tables([pq.read_table(path) for path in sorted(folder.glob("*.parquet"))])


@pytest.mark.slow
@pytest.mark.parametrize("sample", [pytest.param("all", marks=pytest.mark.exhaustive)], indirect=True)
def test_the_corpus_of_this_installation_is_large_and_varied(sample: tuple[Path, Manifest]) -> None:
    _, manifest = sample
    assert manifest.documents >= 3_000
    assert manifest.text_bytes >= 10_000_000
    assert tuple(manifest.kinds) == KINDS
    assert manifest.kinds["description"]["documents"] >= 50
    assert manifest.kinds["licence"]["documents"] >= 50
    assert manifest.duplicates >= 20
    assert {"python", "numpy", "ray"} <= manifest.packages.keys()
    assert "gneiss" not in manifest.packages


@pytest.mark.processes
def test_rows_are_fineweb_like_documents(sample: tuple[Path, Manifest]) -> None:
    table = read(sample[0])
    table.validate(full=True)  # UTF-8
    assert table.schema.equals(SCHEMA)
    ids, texts = table["id"].to_pylist(), table["text"].to_pylist()
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"<urn:uuid:[0-9a-f-]{36}>", id_) for id_ in ids)
    assert all(len(text) <= PAGE_MAX_CHARACTERS for text in texts)
    assert min(map(len, texts)) >= PAGE_MIN_CHARACTERS
    assert not any(re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", text) for text in texts)
    for column in ("date", "language_score", "token_count"):
        assert table[column].null_count == table.num_rows
    for column in set(SCHEMA.names) - {"date", "language_score", "token_count"}:
        assert table[column].null_count == 0
    assert set(table["kind"].to_pylist()) == set(KINDS)


@pytest.mark.processes
def test_the_manifest_counts_what_is_in_the_shards_and_names_no_place(sample: tuple[Path, Manifest]) -> None:
    folder, manifest = sample
    table = read(folder)
    assert json.loads((folder / MANIFEST).read_text()) == asdict(manifest)
    texts = table["text"].to_pylist()
    assert manifest.documents == table.num_rows
    assert manifest.text_bytes == sum(len(text.encode()) for text in texts)
    assert manifest.duplicates == len(texts) - len(set(texts))
    kinds = Counter(table["kind"].to_pylist())
    assert {kind: counts["documents"] for kind, counts in manifest.kinds.items()} == dict(kinds)
    packages = Counter(table["package"].to_pylist())
    assert {name: counts["documents"] for name, counts in manifest.packages.items()} == dict(packages)
    rows = [int(shard["rows"]) for shard in manifest.shards.values()]
    assert sorted(manifest.shards) == sorted(path.name for path in folder.glob("*.parquet"))
    assert len(rows) == 4
    assert max(rows) - min(rows) <= 1
    places = [sys.prefix, sys.base_prefix, str(folder), str(Path(__file__).parents[2])]
    origins = (folder / MANIFEST).read_text() + "".join(table["url"].to_pylist() + table["file_path"].to_pylist())
    assert not [place for place in places if place in origins]


@pytest.mark.processes
def test_another_process_elsewhere_writes_the_same_bytes(tmp_path: Path) -> None:
    """Without the standard library, which takes longest."""
    project = Path(__file__).parents[2]
    program = "from gneiss.demo.sample import *; from gneiss.demo.harvest import Roots;"
    program += "folders = Roots.of_interpreter().site_folders;"
    program += "write_sample(Path('here'), roots=Roots(folders, None), requirements=['pydantic'])"
    changed = {"PYTHONHASHSEED": "7", "LC_ALL": "C", "TZ": "Asia/Tokyo", "PYTHONUTF8": "0", "PYTHONPATH": str(project)}
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=os.environ | changed, check=True)
    roots = Roots(Roots.of_interpreter().site_folders, None)
    write_sample(tmp_path / "there", roots=roots, requirements=["pydantic"])
    assert contents(tmp_path / "here") == contents(tmp_path / "there")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_what_is_read_is_required_and_so_installed() -> None:
    pyproject = Path(__file__).parents[2] / "pyproject.toml"
    dependencies = tomllib.loads(pyproject.read_text())["project"]["dependencies"]
    assert set(REQUIREMENTS) <= {re.split(r"[<>=!~; ]", dependency)[0] for dependency in dependencies}


def install(
    site: Path,
    name: str,
    files: dict[str, str | bytes],
    *,
    metadata: str = "",
    description: str = "",
    record: str | None = None,
    version: str = "1.0",
) -> Path:
    """Lay out a package as an installer does; `files` are relative to the site folder."""
    info = site / f"{name.replace('-', '_')}-{version}.dist-info"
    files = {f"{info.name}/METADATA": f"Name: {name}\nVersion: {version}\n{metadata}\n{description}"} | files
    for path, content in files.items():
        file = site / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    (info / "RECORD").write_text(record if record is not None else "".join(f"{path},,\n" for path in files))
    return info


def read_all(site: Path, *requirements: str, stdlib: Path | None = None) -> tuple[dict[str, Document], Counter[str]]:
    skipped: Counter[str] = Counter()
    documents = list(harvest(Roots((site,), stdlib), requirements, skipped))
    return {document.url.partition("example/")[2]: document for document in documents}, skipped


def test_nothing_but_names_versions_and_contents_matters(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {f"tiny/m{number}.py": f'"""{number}. {PROSE}"""' for number in range(20)}
    a, b = tmp_path / "a" / "site", tmp_path / "b" / "elsewhere" / "site"
    install(a, "tiny", files, description=PROSE)
    install(b, "tiny", dict(reversed(files.items())), description=PROSE)
    # Stray and compiled files, another package, other times, another order of the record.
    (b / "tiny" / "stray.py").write_text(f'"""{PROSE}"""')
    install(b, "unrelated", {"unrelated.py": f'"""{PROSE}"""'})
    record = b / "tiny-1.0.dist-info" / "RECORD"
    record.write_text(record.read_text() + "tiny/__pycache__/m1.cpython-311.pyc,,\ntiny/m2.py,,\n")
    (b / "tiny" / "__pycache__").mkdir()
    (b / "tiny" / "__pycache__" / "m1.cpython-311.pyc").write_bytes(b"compiled")
    for path in b.rglob("*.py"):
        os.utime(path, (1, 1))
    for site in (a, b):
        write_sample(site.parent / "out", shards=2, roots=Roots((site,), None), requirements=["tiny"])
    assert contents(a.parent / "out") == contents(b.parent / "out")
    (b / "tiny" / "m1.py").write_text(f'"""Changed. {PROSE}"""')
    manifest = write_sample(b.parent / "out", shards=2, roots=Roots((b,), None), requirements=["tiny"])
    assert json.loads((b.parent / "out" / MANIFEST).read_text()) == asdict(manifest)
    assert contents(a.parent / "out") != contents(b.parent / "out")


def test_hostile_files_are_left_and_counted(tmp_path: Path) -> None:
    site = tmp_path / "site"
    outside = tmp_path / "outside.txt"
    outside.write_text(PROSE)
    source = f'"""{PROSE}"""\n'
    files: dict[str, str | bytes] = {
        "bad/good.py": source,
        "bad/latin.py": b"# -*- coding: latin-1 -*-\n" + f'"""caf\u00e9 {PROSE}"""'.encode("latin-1"),
        "bad/latin.txt": PROSE.encode() + b"caf\xe9",
        "bad/undeclared.py": b'"""caf\xe9 ' + source.encode()[3:],
        "bad/syntax.py": source + "def (:\n",
        "bad/nul.py": source + "x = '\0'\n",
        "bad/deep.py": source + "-" * 100_000 + "1\n",
        "bad/surrogate.py": f'"""\\ud800 {PROSE}"""\n',
        "bad/huge.txt": PROSE * (FILE_MAX_BYTES // len(PROSE) + 1),
        "bad/controls.txt": b"\xef\xbb\xbf" + PROSE.replace("\n", "\x0c\r\n").encode() + b"\x00\x1b[0m",
        "bad/empty.txt": "",
        "bad/table.txt": "alpha 1 beta 2 gamma 3\n" * 50,
        "bad/template.html": "{% for x in y %}" + PROSE,
        "bad/open.html": "<p>" + PROSE + "<a " * 10,
        "bad/declared.html": f"<![bogus[ x ]]><p>{PROSE}</p>",
        "bad/spaced name, quoted.txt": PROSE,
    }
    record = "".join(f'"{path}",,\n' for path in files)
    record += f"../outside.txt,,\n{outside},,\nbad/loop.txt,,\nbad/gone.txt,,\nbad/folder.py,,\nbad/pipe.txt,,\n\n,\n"
    install(site, "bad", files, record=record + "bad/" + "x" * 300_000 + ".txt,,\n" + '"unclosed\n')
    (site / "bad" / "loop.txt").symlink_to("loop.txt")
    (site / "bad" / "folder.py").mkdir()
    os.mkfifo(site / "bad" / "pipe.txt")
    documents, skipped = read_all(site, "bad")
    kept = {"good.py", "latin.py", "surrogate.py", "controls.txt", "open.html", "declared.html"}
    assert set(documents) == {f"bad/1.0/bad/{name}" for name in {*kept, "spaced name, quoted.txt"}}
    assert documents["bad/1.0/bad/controls.txt"].text == clean(PROSE) + "\n[0m"
    assert "café" in documents["bad/1.0/bad/latin.py"].text
    # is_file is False for a loop, a folder and a pipe; it raises for a name that is too long, or says False (3.12).
    assert skipped.pop("not UTF-8") == 1
    assert skipped.pop("not parsable") == 4
    assert skipped.pop("too large") == 1
    assert skipped.total() == 5
    assert skipped.keys() <= {"missing", "unreadable"}


def test_a_standard_library_is_walked_without_links_or_local_files(tmp_path: Path) -> None:
    stdlib = tmp_path / "lib"
    source = f'"""{PROSE}"""\n'
    for path in (
        "a.py",
        "b/c.py",
        "sitecustomize.py",
        "test/t.py",
        "site-packages/s.py",
        "config-3/x.py",
        "b/\udcff.py",
    ):
        (stdlib / path).parent.mkdir(parents=True, exist_ok=True)
        (stdlib / path).write_text(source)
    (stdlib / "b" / "loop").symlink_to(stdlib)
    (stdlib / "pydoc_data").mkdir()
    (stdlib / "pydoc_data" / "topics.py").write_text(f"topics = {{'if': {PROSE!r}}}\n")
    documents, skipped = read_all(tmp_path / "none", stdlib=stdlib)
    version = sys.version.split()[0]
    assert sorted(documents) == [f"python/{version}/{path}" for path in ("a.py", "b/c.py", "pydoc_data/topics.py")]
    assert not skipped
    assert documents[f"python/{version}/pydoc_data/topics.py"].kind == "text"


def test_requirements_are_followed_with_extras_and_in_circles(tmp_path: Path) -> None:
    install(tmp_path, "top", {}, metadata='Requires-Dist: Mid.Dle[fast] (>=1)\nRequires-Dist: absent; extra == "x"\n')
    metadata = "Requires-Dist: top\nRequires-Dist: quick>=2; extra == 'fast'\nRequires-Dist: slow ; extra == \"slow\"\n"
    install(tmp_path, "mid-dle", {}, metadata=metadata + "Requires-Dist: marked; python_version < '3'\n")
    for name in ("quick", "slow", "marked", "unrelated"):
        install(tmp_path, name, {})
    assert sorted(package.name for package in required([tmp_path], ["top"])) == ["marked", "mid-dle", "quick", "top"]
    assert sorted(package.name for package in required([tmp_path], ["mid_dle[slow]"])) == [
        *("marked", "mid-dle", "quick", "slow", "top")
    ]


def test_broken_and_editable_packages_are_no_packages(tmp_path: Path) -> None:
    install(tmp_path, "edited", {}, description=PROSE)
    (tmp_path / "edited-1.0.dist-info" / "direct_url.json").write_text(
        '{"dir_info": {"editable": true}, "url": "file:///x"}'
    )
    install(tmp_path, "", {}, description=PROSE)
    install(tmp_path, "binary", {"binary-1.0.dist-info/METADATA": b"\xff\xfe\x00" * 100})
    (tmp_path / "hollow-1.0.dist-info").mkdir()
    (tmp_path / "file-1.0.dist-info").write_text("no folder")
    assert required([tmp_path, tmp_path / "missing"], ["edited", "", "binary", "hollow", "file", "!"]) == []


def test_the_first_site_folder_wins(tmp_path: Path) -> None:
    install(tmp_path / "a", "twice", {}, version="2")
    install(tmp_path / "b", "twice", {}, version="3")
    assert [package.version for package in required([tmp_path / "a", tmp_path / "b"], ["twice"])] == ["2"]


def test_a_module_reads_like_its_reference(tmp_path: Path) -> None:
    source = f'''"""About the module. {PROSE}"""
def outer(a, /, b=1, *rest, c, **more):
    """What outer does."""
    def inner():
        """Hidden."""
class Thing(Base):
    """What a thing is."""
    async def act(self, *, how):
        r"""How it acts: \\d."""
    def silent(self):
        return 1
'''
    install(tmp_path, "p", {"p/__init__.py": source})
    documents, _ = read_all(tmp_path, "p")
    assert documents["p/1.0/p/__init__.py"].text == (
        f"p\n\nAbout the module. {PROSE.strip()}\n\nouter(a, b, *rest, c, **more)\n\nWhat outer does.\n\n"
        "Thing\n\nWhat a thing is.\n\nThing.act(self, how)\n\nHow it acts: \\d."
    )


def test_a_description_is_without_headers_badges_and_templates(tmp_path: Path) -> None:
    decoration = (
        "[![CI](https://x/badge.svg)](https://x)\n.. image:: x.png\n   :target: x\n<p align='center'>\n|a| |b|\n"
    )
    description = f"{decoration}Title\n=====\n\n{PROSE}\nSee |x| and [a](b).\n\n.. _link: https://x\n[ref]: https://x\n"
    install(tmp_path, "p", {}, description=description.replace("\n", "\r\n"))
    documents, _ = read_all(tmp_path, "p")
    text = documents["p/1.0/p-1.0.dist-info/METADATA"].text
    assert text == f"Title\n=====\n\n{PROSE.strip()}\n\nSee |x| and [a](b)."


@pytest.mark.parametrize(
    ("page", "text"),
    [
        ("<p>One<br>two</p>", "One\ntwo"),
        ("a<!-- b <p> --> c <!-- d", "a c "),
        ("<STYLE>p > a {}</STYLE><script>'<p>'</script>x", "x"),
        ("<b>1 &lt; 2</b> &amp;amp;", "1 < 2 &amp;"),
        ("1 < 2 > 1", "1 \n 1"),
        ("<script>never closed <p>", ""),
        ("<", "<"),
    ],
)
def test_html_text(page: str, text: str) -> None:
    assert html_text(page).strip("\n") == text


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("a/b.py", "docstring"),
        ("a/b.pyi", "docstring"),
        ("a/license_tools.py", "docstring"),
        ("a-1.dist-info/METADATA", "description"),
        ("a/METADATA", None),
        ("a-1.dist-info/RECORD", None),
        ("a-1.dist-info/entry_points.txt", None),
        ("a-1.dist-info/licenses/LICENSE", "licence"),
        ("a/LICENCE.txt", "licence"),
        ("a/COPYING", "licence"),
        ("a/main.js.LICENSE.txt", "licence"),
        ("a/license.json", None),
        ("a/README", "text"),
        ("a/guide.RST", "text"),
        ("a/page.html", "html"),
        ("a/b.so", None),
    ],
)
def test_kinds(path: str, kind: str | None) -> None:
    assert kind_of(path) == kind


@given(st.lists(st.text("ab \n", max_size=400).map(lambda text: text * 80), max_size=12))
def test_pages_are_bounded_and_keep_the_order(blocks: list[str]) -> None:
    def squeezed(text: str) -> str:
        return re.sub(r"\s", "", text)

    found = list(pages(blocks))
    assert all(PAGE_MIN_CHARACTERS <= len(page) <= PAGE_MAX_CHARACTERS for page in found)
    rest, whole = 0, squeezed("".join(blocks))
    for page in map(squeezed, found):
        position = whole.find(page, rest)
        assert 0 <= position - rest < PAGE_MIN_CHARACTERS  # no more than a rest that is too short was left out
        rest = position + len(page)
    assert len(whole) - rest < PAGE_MIN_CHARACTERS


def test_a_long_text_is_cut_at_the_end_of_a_paragraph() -> None:
    text = ("word " * 100 + "\n") * 10 + "\n" + ("word " * 100 + "\n") * 20
    first, second = pages([text])
    assert (len(first), len(second)) == (4_999, 9_999)


def test_bad_calls_get_clear_errors(tmp_path: Path) -> None:
    nothing = Roots((tmp_path,), None)
    with pytest.raises(InputError, match="at least 1, found 0"):
        write_sample(tmp_path / "out", shards=0, roots=nothing)
    with pytest.raises(InputError, match="nothing to harvest"):
        write_sample(tmp_path / "out", roots=nothing)
    (tmp_path / "out").mkdir(exist_ok=True)
    (tmp_path / "out" / "other.parquet").touch()
    with pytest.raises(OutputError, match=r"other Parquet files \(other\.parquet\)"):
        write_sample(tmp_path / "out", roots=nothing)
