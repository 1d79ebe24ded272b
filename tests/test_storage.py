"""A study's place on a disk and in an object store: a real server of S3's protocol runs beside the tests."""

import json
import os
from dataclasses import replace

import pytest
from test_studies import InThisProcess, begun, models, nothing, write  # noqa: F401 - fixtures

from mechdrift.records import MechdriftError
from mechdrift.studies import storage
from mechdrift.studies.launch import drive
from mechdrift.studies.status import status_of
from mechdrift.studies.storage import Store
from mechdrift.studies.study import read_study
from mechdrift.studies.work import Worker

pytest.importorskip("s3fs")
server = pytest.importorskip("moto.server")


@pytest.fixture(scope="module")
def bucket():
    """The address of an empty bucket of a server on this machine."""
    import s3fs

    running = server.ThreadedMotoServer(port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    settings = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "us-east-1"}
    with pytest.MonkeyPatch.context() as patched:
        for name, value in (settings | {"AWS_ENDPOINT_URL": f"http://{host}:{port}"}).items():
            patched.setenv(name, value)
        s3fs.S3FileSystem().mkdir("studies")
        yield "s3://studies/one"
    running.stop()


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A store as a machine of a name sees it, each with folders of its own."""

    def of(name: str, url: str) -> Store:
        monkeypatch.setattr(storage.platformdirs, "user_cache_path", lambda _: tmp_path / name)
        store = Store(url)
        assert store.local.parts[-3] == name
        return store

    return of


@pytest.mark.parametrize("kind", ["disk", "s3"])
def test_a_file_is_there_whole_or_not_at_all(kind, bucket, tmp_path):
    store = Store(bucket if kind == "s3" else str(tmp_path / "store"))
    assert store.read("cells/1.done.json") is None
    assert store.names("cells") == []
    store.write("cells/1.done.json", b"one")
    store.write("cells/1.done.json", b"two")
    assert store.read("cells/1.done.json") == b"two"
    assert store.names("cells") == ["1.done.json"]
    store.remove("cells/1.done.json")
    store.remove("cells/1.done.json")
    assert store.read("cells/1.done.json") is None


def test_what_one_machine_pushes_another_pulls_once_and_seals_go_last(bucket, machine, monkeypatch):
    here, there = machine("here", f"{bucket}-parts"), machine("there", f"{bucket}-parts")
    place = here.path("run.parts/kl-1of2")
    place.mkdir(parents=True)
    for name in ("part.json", "kl_tokens.parquet", "x.parquet.7.part", ".lock"):
        (place / name).write_text(name)
    files, sent = here._files[0], []
    put = files.put_file
    monkeypatch.setattr(files, "put_file", lambda source, target: (sent.append(target), put(source, target)))
    here.push("run.parts/kl-1of2")
    here.push("run.parts/kl-1of2")
    assert [name.rpartition("/")[2] for name in sent] == ["kl_tokens.parquet", "part.json"]
    there.pull(["run.parts/kl-*/*"])
    assert {file.name for file in there.path("run.parts/kl-1of2").iterdir()} == {"kl_tokens.parquet", "part.json"}
    got, get = [], files.get_file
    monkeypatch.setattr(files, "get_file", lambda source, target: (got.append(source), get(source, target)))
    there.pull(["run.parts/kl-*/*"])
    assert got == []
    (place / "part.json").write_text("anew")
    here.push("run.parts/kl-1of2")
    there.pull(["run.parts/kl-*/*"])
    assert (there.path("run.parts/kl-1of2") / "part.json").read_text() == "anew"


def test_a_study_in_an_object_store_runs_and_is_watched_from_elsewhere(bucket, machine, models):  # noqa: F811
    study = replace(read_study(write(models)), out=f"{bucket}-study")
    machine("here", study.out)
    worker, cells = Worker(study), nothing(5)
    worker.ledger.open(study, cells)
    assert drive(cells, worker.ledger, InThisProcess(worker, fails=("0003",))).done == 4
    machine("there", study.out)
    found = status_of(study)
    assert found.lead.startswith("4 of 5 cells done, 0 running, 1 failed")
    assert json.loads(Store(study.out).read("study.json"))["shards"] == 2


def test_a_bucket_that_is_not_there_or_not_yours_is_said_in_a_sentence(bucket, monkeypatch):
    with pytest.raises(MechdriftError, match=r"s3://nowhere/one .*: check"):
        Store("s3://nowhere/one").write("study.json", b"{}")
    import moto.core.responses as responses

    monkeypatch.setattr(responses.settings, "INITIAL_NO_AUTH_ACTION_COUNT", 0.0)
    with pytest.raises(MechdriftError, match="lets this user neither read nor write what the study needs"):
        Store(bucket).write("study.json", b"{}")


def test_an_address_that_nothing_here_reads_is_said():
    with pytest.raises(MechdriftError, match=r"nope://x cannot be opened \(Protocol not known: nope"):
        Store("nope://x").names("")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_rights_is_said(tmp_path):
    (tmp_path / "store").mkdir(mode=0o500)
    with pytest.raises(MechdriftError, match="could not be written"):
        Store(str(tmp_path / "store")).write("study.json", b"{}")
