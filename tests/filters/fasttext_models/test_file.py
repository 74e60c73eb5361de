"""fastText's files: whatever is in them, a model or a ModelError that names the file."""

import struct
import subprocess
import sys
import tracemalloc
from pathlib import Path

import fasttext
import numpy as np
import pytest

from gneiss.errors import ModelError
from gneiss.filters.fasttext_models.file import read_model, require_sound_weights

LINES = ["__label__hq the quick brown fox jumps", "__label__cc über den faulen Hund"] * 5
FIELDS = [
    "magic",
    "version",
    "dim",
    "ws",
    "epoch",
    "min_count",
    "neg",
    "word_ngrams",
    "loss",
    "model",
    "bucket",
    "minn",
]
HEADER = {name: 4 * place for place, name in enumerate([*FIELDS, "maxn"])}
HEADER |= {"entries": 64, "words": 68, "labels": 72, "pruned": 84}


@pytest.fixture(scope="module")
def model(train_fasttext) -> Path:
    return train_fasttext(LINES)


@pytest.fixture(scope="module")
def quantized(train_fasttext) -> Path:
    return train_fasttext(LINES, bucket=300, quantize=True)


def write(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "model.bin"
    path.write_bytes(data)
    return path


def patched(data: bytes, at: int, layout: str, *values: float) -> bytes:
    new = struct.pack(layout, *values)
    return data[:at] + new + data[at + len(new) :]


@pytest.mark.parametrize("loss", ["softmax", "ova", "ns", "hs"])
def test_reads_what_the_library_reads(train_fasttext, loss):
    path = train_fasttext(LINES, loss=loss, wordNgrams=3, bucket=50, dim=5)
    file, library = read_model(path), fasttext.load_model(str(path))
    words = [file.data[s : s + n].tobytes().decode() for s, n in zip(file.word_starts, file.word_lengths, strict=True)]
    library_words, counts = library.get_words(include_freq=True)
    assert (words, file.counts.tolist()) == (library_words, counts.tolist())
    assert list(file.labels) == library.get_labels()
    assert (file.dimensions, file.word_ngrams, file.buckets, file.loss) == (5, 3, 50, loss)
    assert np.array_equal(file.output, library.get_output_matrix())
    rows = file.data[file.input_start :][: 4 * 5 * (len(words) + 50)].view("<f4").reshape(-1, 5)
    assert np.array_equal(rows, library.get_input_matrix())


def test_reads_quantized(quantized):
    file = read_model(quantized)
    assert (file.input_start, file.output, file.labels) == (None, None, ("__label__hq", "__label__cc"))


@pytest.mark.parametrize("kind", ["model", "quantized"])
@pytest.mark.slow
def test_truncated_anywhere(kind, request, tmp_path):
    data = request.getfixturevalue(kind).read_bytes()
    step = max(len(data) // 700, 1)
    for size in [*range(min(len(data), 400)), *range(400, len(data), step), len(data) - 1]:
        path = write(tmp_path, data[:size])
        with pytest.raises(ModelError, match=str(path)):
            read_model(path)


@pytest.mark.parametrize("huge", [2**31 - 1, 2**30, -1, -(2**31)])
@pytest.mark.parametrize("field", ["dim", "word_ngrams", "loss", "bucket", "maxn", "entries", "words", "labels"])
def test_absurd_sizes(model, tmp_path, field, huge):
    path = write(tmp_path, patched(model.read_bytes(), HEADER[field], "<i", huge))
    tracemalloc.start()
    try:
        with pytest.raises(ModelError, match=str(path)):
            read_model(path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_absurd_but_consistent_sizes(model, tmp_path):
    data = patched(model.read_bytes(), HEADER["entries"], "<iii", 2**31 - 1, 2**31 - 3, 2)
    with pytest.raises(ModelError, match="does not fit"):
        read_model(write(tmp_path, data))


@pytest.mark.parametrize("pruned", [0, 5, 2**60])
def test_pruned_without_quantization(model, tmp_path, pruned):
    with pytest.raises(ModelError, match="damaged"):
        read_model(write(tmp_path, patched(model.read_bytes(), HEADER["pruned"], "<q", pruned)))


@pytest.mark.parametrize("count", [-1, -(2**63), 2**62])
def test_counts_that_no_text_has(model, tmp_path, count):
    data = model.read_bytes()
    at = data.index(b"__label__hq\0") + len(b"__label__hq\0")
    with pytest.raises(ModelError, match="damaged"):  # the library's tree of labels reads past its end
        read_model(write(tmp_path, patched(data, at, "<q", count)))


def test_n_grams_without_buckets(model, tmp_path):
    with pytest.raises(ModelError, match="damaged"):  # the library divides by the number of buckets
        read_model(write(tmp_path, patched(model.read_bytes(), HEADER["bucket"], "<i", 0)))


@pytest.mark.parametrize("content", [b"", b"\0" * 1000, b"PK\x03\x04" + b"x" * 500, b"\xba\x16\x4f\x2f"])
def test_not_a_model(tmp_path, content):
    path = write(tmp_path, content)
    with pytest.raises(ModelError, match=str(path)):
        read_model(path)


def test_missing_file_and_folder(tmp_path):
    for path in (tmp_path / "none.bin", tmp_path):
        with pytest.raises(ModelError, match=str(path)):
            read_model(path)


def test_unsupervised(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("one two three\n" * 20)
    path = tmp_path / "model.bin"
    fasttext.train_unsupervised(str(text), dim=4, minCount=1, bucket=10, thread=1, verbose=0).save_model(str(path))
    with pytest.raises(ModelError, match="not a supervised"):
        read_model(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), 1e30])
def test_nan_and_infinity(model, tmp_path, value):
    file, data = read_model(model), model.read_bytes()
    path = write(tmp_path, patched(data, len(data) - 4, "<f", value))
    with pytest.raises(ModelError, match=f"{path}.*NaN"):
        read_model(path)
    path = write(tmp_path, patched(data, file.input_start + 40, "<f", value))
    with pytest.raises(ModelError, match=f"{path}.*NaN"):
        require_sound_weights(read_model(path))


def test_nan_centroids(quantized, tmp_path):
    data = quantized.read_bytes()
    at = data.rindex(struct.pack("<q", 8), 0, -200)  # columns of the input matrix, then codes, then centroids
    codes = struct.unpack_from("<i", data, at + 8)[0]
    path = write(tmp_path, patched(data, at + 8 + 4 + codes + 16, "<f", float("nan")))
    with pytest.raises(ModelError, match="centroids"):
        read_model(path)


FUZZ = """
import random, sys
from pathlib import Path
import fasttext
from gneiss.errors import ModelError
from gneiss.filters.fasttext_models.file import read_model, require_sound_weights
accepted = 0
for seed in range(800):
    source = Path(sys.argv[1 + seed % (len(sys.argv) - 2)])
    random.seed(seed)
    data = bytearray(source.read_bytes())
    for _ in range(random.randint(1, 3)):
        at = random.randrange(min(len(data), 400)) if random.random() < 0.8 else random.randrange(len(data))
        data[at] = random.choice([0, 1, 2, 127, 128, 255, random.randrange(256)])
    path = Path(sys.argv[-1])
    path.write_bytes(data)
    try:
        require_sound_weights(read_model(path))
    except ModelError as error:
        assert str(path) in str(error)
        continue
    accepted += 1
    fasttext.load_model(str(path)).f.predict("the quick fox und der Hund\\n", 1, 0.0, "replace")
print(accepted)
"""


@pytest.mark.processes
def test_what_is_accepted_does_not_crash_the_library(model, quantized, train_fasttext, tmp_path):
    pruned = train_fasttext(LINES, bucket=400, wordNgrams=3, quantize={"cutoff": 270, "qnorm": True})
    others = [pruned, train_fasttext(LINES, minn=2, maxn=4), train_fasttext(LINES, loss="hs")]
    paths = [str(path) for path in (model, quantized, *others)]
    done = subprocess.run(
        [sys.executable, "-c", FUZZ, *paths, str(tmp_path / "fuzz.bin")], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert 50 < int(done.stdout) < 750  # both happen
