"""Mixture files of trainers: what they say of a corpus written apart, and that the real libraries take them."""

from __future__ import annotations

import json
import math
import runpy
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from gneiss.errors import InputError, OutputError
from gneiss.export.megatron import _index
from gneiss.loader import documents
from gneiss.mixture import Curve, MixedCorpus, Mixture, Policy, find_buckets, plan_mixture, write_buckets
from gneiss.mixture.trainers import write_mixture_file
from gneiss.output.annotation_tables import kept_mask
from gneiss.output.finished_run import FinishedRun, open_run
from tests import runs

Copy = Callable[[Path], Path]
HERE = runs.InThisProcess()
BUDGET = 12_000


@pytest.fixture(scope="module")
def mixture(curated: Path, tmp_path_factory: pytest.TempPathFactory) -> Mixture:
    """Four buckets, of which the lowest is dropped."""
    folder = Path(shutil.copytree(curated, tmp_path_factory.mktemp("bucketed") / "curated"))
    write_buckets(find_buckets(folder, ["prose"], quantiles=4))
    policy = Policy(curve=Curve(Fraction(3, 10), Fraction(5)), max_repetition=Fraction(5))
    return plan_mixture({"web": folder}, BUDGET, policy=policy, buckets="buckets")


@pytest.fixture(scope="module")
def apart(mixture: Mixture, tmp_path_factory: pytest.TempPathFactory) -> MixedCorpus:
    """Written apart; tests write only mixture files into it, and folders beside `data`."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("gneiss.mixture.corpus._FEWEST_DOCUMENTS", 4)
        return mixture.write(tmp_path_factory.mktemp("apart") / "mixed", backend=HERE, shard_bytes=8_000, apart=True)


def table_of(apart: MixedCorpus, name: str) -> pa.Table:
    return pa.concat_tables(
        [pq.read_table(path) for path in sorted((Path(str(apart.folder)) / "data" / name).iterdir())]
    )


def test_each_document_is_there_once_in_the_folder_of_its_bucket(mixture: Mixture, apart: MixedCorpus) -> None:
    parts = [part for part in mixture.plan.parts if part.documents]
    assert [group.name for group in apart.groups] == [
        f"{at:03d}-web-{part.cell.bucket}" for at, part in enumerate(parts)
    ]
    assert any(group.files > 1 for group in apart.groups)
    for group, part in zip(apart.groups, parts, strict=True):
        table = table_of(apart, group.name)
        assert (table.num_rows, sum(table["tokens"].to_pylist())) == (group.documents, group.tokens)
        assert set(table["bucket"].to_pylist()) == {part.cell.bucket}
        assert max(Counter(table["id"].to_pylist()).values()) == 1
        assert set(table["copy"].to_pylist()) == {0}
        assert (group.mixed_tokens, group.mixed_documents) == (part.tokens, part.documents)
        assert group.tokens <= part.cell.tokens
    assert {path.name for path in (Path(str(apart.folder)) / "data").iterdir()} == {
        group.name for group in apart.groups
    }


def test_what_the_files_say(apart: MixedCorpus) -> None:
    total = sum(group.mixed_tokens for group in apart.groups)
    root = f"{apart.folder}/tokens"
    sources = yaml.safe_load(write_mixture_file(apart, "olmo").read())["sources"]
    blend = json.loads(write_mixture_file(apart, "megatron").read())["train"]
    streams = json.loads(write_mixture_file(apart, "mds", "elsewhere").read())
    assert sum(source["target_ratio"] for source in sources) == pytest.approx(1)
    assert [float(weight) for weight in blend[::2]] == [group.mixed_tokens / total for group in apart.groups]
    assert blend[1::2] == [f"{root}/{group.name}" for group in apart.groups]
    for group, source, stream in zip(apart.groups, sources, streams, strict=True):
        assert source["paths"] == [f"{root}/{group.name}/*.npy"]
        assert source["target_ratio"] == pytest.approx(group.mixed_tokens / total)
        assert 1 <= source["max_repetition_ratio"] >= group.mixed_tokens / group.tokens
        assert stream == {"local": f"elsewhere/{group.name}", "repeat": group.mixed_documents / group.documents}


def test_grain_mixes_the_folders_by_their_weights(apart: MixedCorpus) -> None:
    plan = json.loads(write_mixture_file(apart, "grain").read())
    assert plan["documents"] == sum(group.mixed_documents for group in apart.groups)
    assert [Path(part["path"]).name for part in plan["parts"]] == [group.name for group in apart.groups]
    grain: Any = pytest.importorskip("grain", reason="needs Grain: pip install grain")
    parts = [pq.read_table(part["path"], columns=["id"])["id"].to_pylist() for part in plan["parts"]]
    datasets = [grain.MapDataset.source(part).seed(at).shuffle().repeat() for at, part in enumerate(parts)]
    mixed = grain.MapDataset.mix(datasets, [part["weight"] for part in plan["parts"]])[: plan["documents"]]
    counts = Counter(mixed[at] for at in range(len(mixed)))
    for group, part in zip(apart.groups, parts, strict=True):
        own = [counts[id_] for id_ in part]
        assert abs(sum(own) - group.mixed_documents) <= 1
        assert max(own) - min(own) <= 1


def test_what_has_no_folders_or_no_format_is_refused(mixture: Mixture, apart: MixedCorpus, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="format 'olmp': no trainer of this name; did you mean 'olmo'"):
        write_mixture_file(apart, "olmp")
    mixed = mixture.write(tmp_path / "mixed", backend=HERE)
    with pytest.raises(InputError, match="mixed already; write it with apart=True"):
        write_mixture_file(mixed, "olmo")
    with pytest.raises(OutputError, match="another"):
        mixture.write(tmp_path / "mixed", backend=HERE, apart=True)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("datasets") is None, reason="needs datasets")
def test_datasets_interleaves_the_folders(apart: MixedCorpus) -> None:
    path = write_mixture_file(apart, "hf")
    given = runpy.run_path(str(path))
    rows = list(given["mixture"](seed=3))
    assert len(rows) == sum(group.mixed_documents for group in apart.groups)
    counts = Counter(row["bucket"] for row in rows)
    for group in apart.groups:
        expected = group.mixed_documents
        assert abs(counts[group.name.rpartition("-")[2]] - expected) < 5 * expected**0.5 + 1
    assert [row["id"] for row in given["mixture"](seed=3)] == [row["id"] for row in rows]


OLMO = """
import json, sys
from pathlib import Path
from tests.export.olmo_process import stand_in
from importlib.util import find_spec
if find_spec("cached_path") is None:
    client = type("Client", (), {"recoverable_errors": ()})
    schemes = stand_in("cached_path.schemes", S3Client=client, SchemeClient=client, add_scheme_client=print)
    stand_in("cached_path", cached_path=lambda path, **_: Path(path), schemes=schemes)
from olmo_core.data.source_mixture import SourceMixtureDatasetConfig, SourceMixtureList
from olmo_core.data.types import NumpyDatasetDType
listed = SourceMixtureList.from_yaml(sys.argv[1])
config = SourceMixtureDatasetConfig(
    source_list=listed, requested_tokens=int(sys.argv[2]), global_batch_size=64, render_tables=False, quiet=True
)
built = config.build(npdtype=NumpyDatasetDType.uint16.as_np_dtype(), sequence_length=16)
print(json.dumps({outcome.name: sum(path.tokens for path in outcome.path_tokens) for outcome in built.sources}))
"""


def read_by(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False)


@pytest.mark.processes
@pytest.mark.slow
@pytest.mark.skipif(find_spec("olmo_core") is None, reason="needs ai2-olmo-core")
def test_olmo_core_builds_the_mixture(apart: MixedCorpus) -> None:
    root = Path(str(apart.folder)) / "tokens-olmo"
    for group in apart.groups:
        (root / group.name).mkdir(parents=True)
        (root / group.name / "part-0.npy").write_bytes(np.ones(group.tokens + group.documents, "<u2").tobytes())
    path = write_mixture_file(apart, "olmo", str(root))
    total = sum(group.mixed_tokens for group in apart.groups)
    read = read_by(OLMO, str(path), str(total))
    assert read.returncode == 0, read.stderr
    found = json.loads(read.stdout.splitlines()[-1])
    assert sum(found.values()) >= total
    for group in apart.groups:
        assert found[group.name] == pytest.approx(group.mixed_tokens, abs=100)


MEGATRON = """
import json, sys
from megatron.core.datasets.indexed_dataset import IndexedDataset
from megatron.core.datasets.utils import get_blend_from_list
prefixes, weights = get_blend_from_list(json.load(open(sys.argv[1]))["train"])
print(json.dumps([weights, [len(IndexedDataset(prefix)) for prefix in prefixes]]))
"""


@pytest.mark.processes
@pytest.mark.slow
@pytest.mark.skipif(find_spec("megatron") is None or find_spec("torch") is None, reason="needs megatron-core, torch")
def test_megatron_reads_the_blend(apart: MixedCorpus) -> None:
    root = Path(str(apart.folder)) / "tokens-megatron"
    root.mkdir()
    for group in apart.groups:
        (root / f"{group.name}.bin").write_bytes(np.ones(3 * group.documents, "<i4").tobytes())
        (root / f"{group.name}.idx").write_bytes(_index(np.full(group.documents, 3), 4, 4))
    read = read_by(MEGATRON, str(write_mixture_file(apart, "megatron", str(root))))
    assert read.returncode == 0, read.stderr
    weights, lengths = json.loads(read.stdout.splitlines()[-1])
    total = sum(group.mixed_tokens for group in apart.groups)
    assert weights == [group.mixed_tokens / total for group in apart.groups]
    assert lengths == [group.documents for group in apart.groups]


@pytest.fixture(scope="module")
def weighed(released: Path, tmp_path_factory: pytest.TempPathFactory) -> MixedCorpus:
    """Documents by the factors of their prior weights, all of them there."""
    run = open_run(released)
    tokens = sum(table["tokens"].to_numpy().sum() for table in tables_of_kept(run))
    policy = Policy(max_repetition=Fraction(1000))
    mixture = plan_mixture({"web": released}, 160 * int(tokens), policy=policy, weights="weights")
    return mixture.write(tmp_path_factory.mktemp("weighed") / "mixed", backend=HERE, apart=True)


def tables_of_kept(run: FinishedRun) -> list[pa.Table]:
    return [
        table.filter(pa.array(kept_mask(table))) for shard in run.shards for _, table in run.batches(shard, ["tokens"])
    ]


def test_what_automodel_is_told_are_the_prior_weights(weighed: MixedCorpus, released: Path) -> None:
    """w / q, times one number, is the factor in a group's name, and that is its documents' prior weight."""
    told = yaml.safe_load(write_mixture_file(weighed, "automodel", "elsewhere").read())
    domains, train = told["domain_mixture"]["domains"], told["dataset"]["paths"]["train"]
    assert len(domains) == len(weighed.groups) > 3
    assert train[1::2] == [f"elsewhere/{group.name}" for group in weighed.groups] == [d["path"] for d in domains]
    assert list(map(float, train[::2])) == [domain["sampling_weight"] for domain in domains]
    for weight in ("sampling_weight", "objective_weight"):
        assert sum(domain[weight] for domain in domains) == pytest.approx(1)
    factors = [float(domain["name"].partition("-x")[2] or 1) for domain in domains]
    ratios = [domain["objective_weight"] / domain["sampling_weight"] for domain in domains]
    mean = sum(group.tokens * factor for group, factor in zip(weighed.groups, factors, strict=True))
    mean /= sum(group.tokens for group in weighed.groups)
    assert ratios == pytest.approx([factor / mean for factor in factors], rel=0.02)
    prior = {document.id: math.exp(document.log_prior) for document in documents(released)}
    ids = 0
    for group, factor in zip(weighed.groups, factors, strict=True):
        for id in table_of(weighed, group.name)["id"].to_pylist():
            assert abs(prior[id] - factor) <= 1 / 32 + 1e-9
            ids += 1
    assert ids == len(prior)


def test_one_bucket_is_nothing_to_weigh(released: Path, tmp_path: Path) -> None:
    whole = plan_mixture({"web": released}, BUDGET).write(tmp_path / "whole", backend=HERE, apart=True)
    with pytest.raises(InputError, match="automodel: expected two buckets or factors or more, found one"):
        write_mixture_file(whole, "automodel")


AUTOMODEL = """
import json, sys
import torch, yaml
from nemo_automodel.components.datasets.llm.megatron.indexed_dataset import IndexedDataset
from nemo_automodel.components.datasets.llm.megatron.megatron_utils import get_blend_from_list
from nemo_automodel.components.loss.masked_ce import MaskedCrossEntropy
from nemo_automodel.components.training.domain_mixture import DomainMixtureConfig, DomainWeightConfig
told = yaml.safe_load(open(sys.argv[1]))
blend = get_blend_from_list(told["dataset"]["paths"]["train"])
domains = tuple(DomainWeightConfig(**domain) for domain in told["domain_mixture"]["domains"])
mixture = DomainMixtureConfig(domains).build(blend=blend)
torch.manual_seed(0)
logits, labels = torch.randn(len(domains), 5, 7), torch.randint(0, 7, (len(domains), 5))
labels[0, 2] = -100
weights = mixture.loss_weights(torch.arange(len(domains)), labels)
loss = MaskedCrossEntropy()(logits, labels, num_label_tokens=9, loss_weights=weights)
losses = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").view(labels.shape)
lengths = [len(IndexedDataset(prefix)) for prefix in blend[0]]
print(json.dumps([mixture.loss_multipliers, lengths, loss.item(), losses.sum(1).tolist()]))
"""


@pytest.mark.processes
@pytest.mark.slow
@pytest.mark.skipif(find_spec("nemo_automodel") is None or find_spec("torch") is None, reason="needs nemo-automodel")
def test_automodel_weighs_the_tokens(weighed: MixedCorpus) -> None:
    root = Path(str(weighed.folder)) / "tokens-automodel"
    root.mkdir()
    for group in weighed.groups:
        (root / f"{group.name}.bin").write_bytes(np.ones(3 * group.documents, "<i4").tobytes())
        (root / f"{group.name}.idx").write_bytes(_index(np.full(group.documents, 3), 4, 4))
    read = read_by(AUTOMODEL, str(write_mixture_file(weighed, "automodel", str(root))))
    assert read.returncode == 0, read.stderr
    multipliers, lengths, loss, losses = json.loads(read.stdout.splitlines()[-1])
    there, mixed = (sum(getattr(group, of) for group in weighed.groups) for of in ("tokens", "mixed_tokens"))
    assert multipliers == pytest.approx(
        [(group.mixed_tokens / mixed) / (group.tokens / there) for group in weighed.groups]
    )
    assert lengths == [group.documents for group in weighed.groups]
    assert loss == pytest.approx(sum(a * b for a, b in zip(multipliers, losses, strict=True)) / 9, rel=1e-5)


MDS = """
import json, sys
from tests.export import streaming_process
from importlib.util import find_spec
if find_spec("torchvision") is None:
    functional = streaming_process.stand_in("torchvision.transforms.functional", to_tensor=None)
    transforms = streaming_process.stand_in("torchvision.transforms", functional=functional)
    datasets = streaming_process.stand_in("torchvision.datasets", VisionDataset=object)
    streaming_process.stand_in("torchvision", transforms=transforms, datasets=datasets)
from streaming import MDSWriter, Stream, StreamingDataset
streams, counts = json.load(open(sys.argv[1])), json.loads(sys.argv[2])
for stream, count in zip(streams, counts):
    with MDSWriter(columns={"from": "str"}, out=stream["local"]) as writer:
        for _ in range(count):
            writer.write({"from": stream["local"]})
found = {}
for sample in StreamingDataset(streams=[Stream(**stream) for stream in streams], batch_size=1, shuffle=True):
    found[sample["from"]] = found.get(sample["from"], 0) + 1
print(json.dumps([found.get(stream["local"], 0) for stream in streams]))
"""


@pytest.mark.processes
@pytest.mark.slow
@pytest.mark.skipif(find_spec("streaming") is None, reason="needs mosaicml-streaming")
def test_streaming_repeats_the_streams(apart: MixedCorpus) -> None:
    root = Path(str(apart.folder)) / "tokens-mds"
    path = write_mixture_file(apart, "mds", str(root))
    read = read_by(MDS, str(path), json.dumps([group.documents for group in apart.groups]))
    assert read.returncode == 0, read.stderr
    found = json.loads(read.stdout.splitlines()[-1])
    for group, count in zip(apart.groups, found, strict=True):
        assert abs(count - group.mixed_documents) <= 1
