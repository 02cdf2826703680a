"""Artefacts in a bucket, on a real S3 server: uploaded whole or not at all, and trusted only where they verify."""

import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from selfie.errors import ConfigurationError, StorageError
from selfie.storage.commit import commit_file, commit_folder, commit_text, committed_version, forget_provenance
from selfie.storage.remote import Bucket, environment, scratch_folder
from servers import free_port

Machine = Callable[[str], Bucket]
RECORD = {"version": 1, "parameters": {"seed": 0}, "inputs": {}}


def write_policy(folder: Path, weights: str = "weights") -> None:
    """A folder of two files as an artefact."""

    def write(new: Path) -> None:
        (new / "model.safetensors").write_text(weights)
        (new / "tokenizer").mkdir()
        (new / "tokenizer/vocabulary.json").write_text("[]")

    commit_folder(folder, write, RECORD)


def weights(folder: Path) -> str:
    return (folder / "model.safetensors").read_text()


def test_files_go_first_and_the_manifest_last(machine: Machine, s3: Any, bucket: str):
    here = machine("one")
    s3.requests.clear()
    write_policy(here.folder / "06_models/policy_1")
    puts = [path.removeprefix(f"/{bucket}/prefix/") for method, path in s3.requests if method == "PUT"]
    version = puts[0].split("/")[2]
    assert puts == [
        f"06_models/policy_1/{version}/model.safetensors",
        f"06_models/policy_1/{version}/tokenizer/vocabulary.json",
        "06_models/policy_1/.manifest.json",
    ]
    s3.requests.clear()
    here.push(here.folder / "06_models/policy_1")
    commit_text(here.folder.parent / "elsewhere.txt", "no data of this bucket's")
    assert s3.requests == []


def test_another_machine_gets_the_same(machine: Machine):
    """Files, folders and twins at or below what it asks for, with what they were made from, and nothing else."""
    here = machine("one").folder
    write_policy(here / "06_models/policy_1")
    commit_text(here / "08_reporting/leaderboard.csv", "a,b")
    commit_text(here / "08_reporting/leaderboard.md", "| a | b |")
    commit_text(here / "08_reporting/other.txt", "not asked for")
    there = machine("two")
    there.pull([there.folder / "06_models", there.folder / "08_reporting/leaderboard.csv"])
    for name in ("06_models/policy_1", "08_reporting/leaderboard.csv", "08_reporting/leaderboard.md"):
        assert committed_version(there.folder / name) == committed_version(here / name) is not None
    assert weights(there.folder / "06_models/policy_1") == "weights"
    assert not (there.folder / "08_reporting/other.txt").exists()


def test_a_new_version_takes_the_place_of_the_old(machine: Machine, s3: Any, bucket: str):
    policy = machine("one").folder / "policy"
    write_policy(policy)
    before = s3.names(bucket)
    write_policy(policy, "better")
    after = s3.names(bucket)
    assert len(before) == len(after)
    assert len(set(before) & set(after)) == 1  # the manifest's name
    there = machine("two")
    there.pull([there.folder / "policy"])
    assert weights(there.folder / "policy") == "better"
    forget_provenance(there.folder / "policy")  # `kedro run --fresh`
    back = machine("one")
    back.pull([policy])
    assert committed_version(policy)["provenance"] is None


def test_the_newer_version_wins(machine: Machine):
    """What was committed without the bucket is newer where the bucket still has what the folder saw last."""
    here = machine("one")
    write_policy(here.folder / "policy", "first")
    there = machine("two")
    there.pull([there.folder / "policy"])
    there.close()
    write_policy(there.folder / "policy", "made while the bucket was away")
    again = machine("two")
    again.pull([again.folder / "policy"])
    assert weights(again.folder / "policy") == "made while the bucket was away"
    again.close()
    write_policy(here.folder / "policy", "made on from the first, in vain")
    back = machine("one")
    back.pull([back.folder / "policy"])
    assert weights(back.folder / "policy") == "made while the bucket was away"


def test_a_torn_last_line_of_what_was_seen_costs_that_line_alone(machine: Machine):
    """The folder's newer policy would else give way to the bucket's."""
    here = machine("one")
    commit_text(here.folder / "first.txt", "seen")
    here.close()
    with (here.folder / ".bucket/seen.jsonl").open("a") as record:
        record.write('["torn", ')
    again = machine("one")
    commit_text(again.folder / "second.txt", "seen too")
    assert set(machine("one").seen) == {"first.txt", "second.txt"}


KILLED = """
import sys
from pathlib import Path
from selfie.storage.commit import commit_folder
from selfie.storage.remote import Bucket
bucket = Bucket(sys.argv[1], Path(sys.argv[2]))
bucket.open()
commit_folder(bucket.folder / "policy", lambda new: (new / "model.safetensors").write_text("better") and None)
"""


@pytest.mark.parametrize("moment", ["model.safetensors$", "manifest.json$"])
def test_a_killed_upload_leaves_the_version_before(machine: Machine, s3: Any, bucket: str, moment: str):
    """Before its files are there, and with the files but without the manifest."""
    here = machine("one")
    write_policy(here.folder / "policy", "before")
    here.close()
    s3.hold = moment
    process = subprocess.Popen([sys.executable, "-c", KILLED, here.address, str(here.folder)])
    try:
        assert s3.held.wait(60)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    finally:
        s3.refuse_held()
    there = machine("two")
    there.pull([there.folder / "policy"])
    assert weights(there.folder / "policy") == "before"
    again = machine("one")
    s3.requests.clear()
    again.pull([again.folder / "policy"])
    put = [path for method, path in s3.requests if method == "PUT" and "safetensors" in path]
    assert len(put) == (moment != "manifest.json$")  # what has arrived is not sent again
    there = machine("two")
    there.pull([there.folder / "policy"])
    assert weights(there.folder / "policy") == "better"


@pytest.mark.parametrize("damage", ["other bytes", "a file that is gone", "a path that climbs out"])
def test_what_does_not_verify_is_not_there(
    machine: Machine, s3: Any, bucket: str, damage: str, caplog: pytest.LogCaptureFixture
):
    write_policy(machine("one").folder / "policy")
    (name,) = (name for name in s3.names(bucket) if name.endswith("model.safetensors"))
    manifest = "prefix/policy/.manifest.json"
    if damage == "other bytes":
        s3.client.put_object(Bucket=bucket, Key=name, Body=b"WEIGHTS")
    elif damage == "a file that is gone":
        s3.client.delete_object(Bucket=bucket, Key=name)
    else:
        text = s3.client.get_object(Bucket=bucket, Key=manifest)["Body"].read().decode()
        changed = text.replace('"model.safetensors"', '"../../outside"').encode()
        s3.client.put_object(Bucket=bucket, Key=manifest, Body=changed)
    there = machine("two")
    there.pull([there.folder / "policy"])
    assert committed_version(there.folder / "policy") is None
    assert [file.name for file in there.folder.iterdir()] == [".bucket"]
    assert "prefix/policy is not whole" in caplog.text
    write_policy(there.folder / "policy", "made again")
    third = machine("three")
    third.pull([third.folder / "policy"])
    assert weights(third.folder / "policy") == "made again"


@pytest.mark.parametrize("lost", ["", "model.safetensors"])
def test_what_the_bucket_lost_is_uploaded_again(machine: Machine, s3: Any, bucket: str, lost: str):
    """All of it, or one object."""
    here = machine("one")
    write_policy(here.folder / "policy")
    for name in s3.names(bucket):
        if name.endswith(lost):
            s3.client.delete_object(Bucket=bucket, Key=name)
    again = machine("one")
    again.pull([again.folder / "policy"])
    there = machine("two")
    there.pull([there.folder / "policy"])
    assert weights(there.folder / "policy") == "weights"


def test_unfinished_work_goes_with_the_run_and_artefacts_stay(machine: Machine, s3: Any, bucket: str):
    """Shards and training checkpoints reach the next machine, until the step that they were for is done."""
    here = machine("one")
    for name in ("06_models/.workspace_1/step/shard-000000", "06_models/.workspace_1/step/shard-000001", "responses"):
        write_policy(here.folder / name)
    there = machine("two")
    there.pull([there.folder / "06_models/.workspace_1"])
    assert len(list(there.folder.glob("06_models/.workspace_1/step/shard-*"))) == 2
    shutil.rmtree(there.folder / "06_models/.workspace_1")
    write_policy(there.folder / "scored_responses")
    left = {name.split("/")[1] for name in s3.names(bucket)}
    assert left == {"responses", "scored_responses"}
    shutil.rmtree(there.folder / "scored_responses")
    there.close()
    assert {name.split("/")[1] for name in s3.names(bucket)} == left


def test_a_bucket_that_is_not_there_or_not_writable(bucket: str, s3: Any, tmp_path: Path, monkeypatch):
    """One message, exit code 3, and not a file is written."""
    s3.forbid_writing(bucket)
    problems = {f"s3://{bucket}/prefix": "it may not be written", "s3://no-such-bucket/a": "there is no such bucket"}
    for address, problem in problems.items():
        with pytest.raises(StorageError, match=problem) as caught:
            Bucket(address, tmp_path / "folder").open()
        assert address in str(caught.value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(StorageError, match="it can't be reached") as caught:
        Bucket(f"s3://{bucket}/prefix", tmp_path / "folder").open()
    assert caught.value.exit_code == 3
    assert not (tmp_path / "folder").exists()


def test_a_bucket_that_vanishes_loses_nothing(machine: Machine, s3: Any, bucket: str, caplog: pytest.LogCaptureFixture):
    """The commit stands in the local folder; it is uploaded once the bucket answers again."""
    here = machine("one")
    write_policy(here.folder / "first")
    s3.kill()
    try:
        with pytest.raises(StorageError, match="the upload of second failed") as caught:
            write_policy(here.folder / "second")
        assert "run the same command again" in str(caught.value)
        assert weights(here.folder / "second") == "weights"
        here.close()
    finally:
        s3.start()
    again = machine("one")
    again.pull([again.folder / "first", again.folder / "second"])
    there = machine("two")
    there.pull([there.folder / "second"])
    assert weights(there.folder / "second") == "weights"


def test_a_storage_without_conditional_creation_is_refused(tmp_path: Path):
    """fsspec's own local file system, whose ``create`` was taken away: two runs could not be kept apart."""
    bucket = Bucket(f"file://{tmp_path}/bucket", tmp_path / "folder")
    (tmp_path / "bucket/.probes").mkdir(parents=True)
    pipe = bucket.files.pipe_file
    bucket.files.pipe_file = lambda path, value, mode="overwrite": pipe(path, value)
    with pytest.raises(StorageError, match="two runs create the same object"):
        bucket.open()


def test_a_full_local_disk_is_no_fault_of_the_bucket(machine: Machine, small_disk: Path, bucket: str):
    commit_file(machine("one").folder / "large", lambda new: new.write_text("x" * 2**20) and None)
    there = Bucket(f"s3://{bucket}/prefix", small_disk)
    machine("two").close()
    there.open()
    with pytest.raises(OSError, match="No space left"):
        there.pull([small_disk / "large"])
    there.close()


def test_a_torn_record_costs_nothing(machine: Machine):
    here = machine("one")
    write_policy(here.folder / "policy")
    with (here.folder / ".bucket/seen.jsonl").open("a") as record:
        record.write('["policy", "')
    assert machine("one").seen == here.seen


def test_the_local_folder_of_an_address(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SELFIE_DATA", "s3://bucket/a/prefix/")
    assert environment("SELFIE_DATA", "data") == "data/scratch/s3/bucket/a/prefix"
    monkeypatch.setenv("SELFIE_SCRATCH", "/large/disk")
    assert environment("SELFIE_DATA", "data") == "/large/disk/s3/bucket/a/prefix"
    monkeypatch.setenv("SELFIE_DATA", "/data")
    assert environment("SELFIE_DATA", "data") == "/data"
    monkeypatch.delenv("SELFIE_DATA")
    assert environment("SELFIE_DATA", "data") == "data"
    for address in ("s3://", "s3://bucket//a", "s3://bucket/../../etc", "a/b://bucket"):
        with pytest.raises(ConfigurationError, match="is no bucket's address"):
            scratch_folder(address)


def test_a_package_that_is_missing_is_named(tmp_path: Path):
    with pytest.raises(ConfigurationError, match=r"xyz://bucket can't be opened.*\n.*install it"):
        Bucket("xyz://bucket", tmp_path)
