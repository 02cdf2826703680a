"""What is deployed: files that their linters accept, environments that load, a DAG that is the pipeline."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from docker.utils.build import exclude_paths
from kedro.framework.project import pipelines

from configuration import parameters
from runs import PROJECT, session

SCRIPTS = Path(sys.executable).parent
RAY_JOB = PROJECT / "deploy/kuberay/rayjob.yaml"


@pytest.mark.parametrize(
    ("linter", "file"), [("hadolint", "Dockerfile"), ("shellcheck", "deploy/slurm/multi_gpu.sbatch")]
)
def test_the_linter_finds_nothing(linter: str, file: str):
    found = subprocess.run([SCRIPTS / linter, PROJECT / file], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout) == (0, "")


def test_the_image_gets_the_project_and_no_secrets(tmp_path: Path):
    """By the rules of ``.dockerignore`` as Docker's own client for Python reads them."""
    wanted = ["requirements.lock", "requirements-model.lock", "pyproject.toml", "README.md", "src/selfie/cli.py"]
    wanted += ["conf/base/catalog.yml", "data/01_raw/prompts.jsonl", "data/01_raw/instructions/prompts.jsonl"]
    unwanted = ["conf/local/credentials.yml", "data/01_raw/labels/demo/ana.jsonl", "data/06_models/demo/policy_1/w"]
    unwanted += [".venv/bin/python", ".git/config", "mlflow.db", "src/selfie/__pycache__/cli.pyc", "tests/runs.py"]
    for name in (*wanted, *unwanted):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    sent = exclude_paths(tmp_path, (PROJECT / ".dockerignore").read_text().splitlines())
    assert set(wanted) <= sent
    assert not set(unwanted) & sent
    assert all((PROJECT / name).exists() for name in wanted)


def test_the_cluster_has_the_projects_ray_and_the_runs_environment():
    job = yaml.safe_load(RAY_JOB.read_text())
    spec = job["spec"]["rayClusterSpec"]
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    assert f'"ray~={spec["rayVersion"].rpartition(".")[0]}"' in (PROJECT / "pyproject.toml").read_text()
    assert job["spec"]["entrypoint"] == "kedro run --env ray"
    pods = [group["template"]["spec"] for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"])]
    for pod in pods:  # every node sees the data under one name
        (container,) = pod["containers"]
        places = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        assert places["data"] == {one["name"]: one["value"] for one in container["env"]}["SELFIE_DATA"]
        assert {volume["name"] for volume in pod["volumes"]} == set(places)


def test_the_environments(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert parameters("ray").execution.ray_address is None
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    on_ray, alone, all_gpus = (parameters(env).execution for env in ("ray", "single_gpu", "multi_gpu"))
    assert (on_ray.backend, on_ray.ray_address) == ("ray", "10.0.0.1:6379")
    assert (alone.backend, alone.workers, alone.training_processes) == ("local", 1, 1)
    assert (all_gpus.workers, all_gpus.training_processes) == ("auto", "auto")


def test_airflows_dag_is_the_pipeline(tmp_path: Path):
    """A task an iteration, and one for each step outside of them; each waits for those whose outputs it takes."""
    command = ["airflow", "create", "--env", "test", "--group-by", "namespace", "--target-dir", str(tmp_path)]
    subprocess.run([SCRIPTS / "kedro", *command], cwd=PROJECT, capture_output=True, check=True)
    (file,) = tmp_path.glob("*.py")
    (dag,) = (node for node in ast.parse(file.read_text()).body if _is_task(node) and node.decorator_list)
    (settings,) = dag.decorator_list
    given = {keyword.arg: keyword.value for keyword in settings.keywords}
    assert ast.literal_eval(given["max_active_runs"]) == 1
    edges = {
        (_key(node.left), _key(node.right))
        for node in ast.walk(dag)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.RShift)
    }
    with session() as opened:
        opened.load_context()
        nodes = pipelines["__default__"].nodes
    makers = {output: _task(node) for node in nodes for output in node.outputs}
    needed = {(makers[name], _task(node)) for node in nodes for name in node.inputs if name in makers}
    assert edges == {(before, after) for before, after in needed if before != after}
    assert {_task(node) for node in nodes} == {one.name.replace("_", "-") for one in dag.body if _is_task(one)}


def _task(node) -> str:
    return (node.namespace or node.name).replace("_", "-")


def _key(task: ast.AST) -> str:
    assert isinstance(task, ast.Subscript)
    return ast.literal_eval(task.slice)


def _is_task(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef)
