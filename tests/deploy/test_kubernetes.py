"""The Kubernetes manifests: a strict validator takes them, and they agree with the code and with each other."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from runtime_matrix.experiments.cells.parts import cell_key
from runtime_matrix.experiments.cli import command
from runtime_matrix.experiments.serving import app, running
from runtime_matrix.experiments.serving.options import read_options
from tests.deploy.manifests import (
    COMPOSE,
    KUSTOMIZATIONS,
    MANIFESTS,
    cells,
    checked,
    container,
    instructions,
    pod,
    resources,
    served,
    value_of,
)

JOBS, DEPLOYMENTS, SERVICES = resources("Job"), resources("Deployment"), resources("Service")
EVALUATE, MERGE = JOBS["runtime-matrix-evaluate"], JOBS["runtime-matrix-merge"]
SERVE = DEPLOYMENTS["runtime-matrix-serve"]
WORKLOADS = {**JOBS, **DEPLOYMENTS}
STRICT = ("--strict", "--no-warn")


def test_every_manifest_is_valid() -> None:
    done = checked("kubernetes-validate", *STRICT, *MANIFESTS)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(" passed for resource ") == len(MANIFESTS)


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_a_misspelt_field_is_found(path: Path, tmp_path: Path) -> None:
    misspelt = tmp_path / path.name
    misspelt.write_text(path.read_text().replace("\nspec:\n", "\nspec:\n  misspelt: 1\n"))
    done = checked("kubernetes-validate", *STRICT, misspelt)
    assert done.returncode == 1
    assert "'misspelt' was unexpected" in done.stdout + done.stderr


@pytest.mark.parametrize("path", KUSTOMIZATIONS, ids=lambda path: "/".join(path.parts[-3:-1]))
def test_what_a_kustomization_makes_is_valid(path: Path, tmp_path: Path) -> None:
    if shutil.which("kubectl") is None:
        pytest.skip("needs kubectl, which has kustomize")
    made = subprocess.run(["kubectl", "kustomize", path.parent], capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    (tmp_path / "made.yaml").write_text(made.stdout)
    done = checked("kubernetes-validate", *STRICT, tmp_path / "made.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    is_gpu = "gpu" in path.parts
    kinds = made.stdout.count("kind: Job") + made.stdout.count("kind: Deployment")
    assert kinds > 0
    assert made.stdout.count("nvidia.com/gpu: 1") == (kinds if is_gpu else 0)
    assert made.stdout.count("-cuda\n" if is_gpu else "-cpu\n") == kinds


def test_the_index_of_a_pod_is_its_shard_and_all_are_merged() -> None:
    specification, words = EVALUATE["spec"], container(EVALUATE)["args"]
    assert specification["completionMode"] == "Indexed"
    assert specification["completions"] == specification["parallelism"] == int(value_of(words, "shards") or 0)
    assert value_of(words, "shard") == "$(JOB_COMPLETION_INDEX)"
    merging = container(MERGE)["args"]
    assert [word for word in words if not word.startswith("shard=")] == [
        word for word in merging if word != "resume=true"
    ]
    assert "resume=true" in merging
    assert MERGE["spec"]["suspend"] is True


def test_the_commands_are_planned(tmp_path: Path) -> None:
    (merged,) = cells(container(MERGE)["args"], tmp_path)
    for index in (0, EVALUATE["spec"]["completions"] - 1):
        words = [word.replace("$(JOB_COMPLETION_INDEX)", str(index)) for word in container(EVALUATE)["args"]]
        (shard,) = cells(words, tmp_path)
        assert (shard.config.shard, cell_key(shard)) == (index, cell_key(merged))
    assert not served(container(SERVE)["args"], tmp_path).is_local


@pytest.mark.parametrize("name", WORKLOADS)
def test_pods_run_as_the_image_s_user_with_nothing_to_gain(name: str) -> None:
    context, only = pod(WORKLOADS[name])["securityContext"], container(WORKLOADS[name])
    (user,) = instructions("USER")
    assert [f"{context['runAsUser']}:{context['runAsGroup']}", str(context["fsGroup"])] == [user, user.split(":")[1]]
    assert context["runAsNonRoot"] is True
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert only["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    mounted = {mount["mountPath"] for mount in only["volumeMounts"]}
    written = {word.partition("=")[2] for word in only["args"] if word.partition("=")[0].endswith("_dir")}
    assert all(any(f"{path}/".startswith(f"{mount}/") for mount in mounted) for path in written)
    assert only["resources"]["limits"]["cpu"] == value_of(only["args"], "hw.threads")
    assert only["resources"]["requests"] == only["resources"]["limits"]


def test_probes_and_ports_are_those_of_the_server(tmp_path: Path) -> None:
    only, options = container(SERVE), served(container(SERVE)["args"], tmp_path)
    assert only["ports"] == [{"name": "http", "containerPort": options.port}]
    paths = {only[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "readiness", "liveness")}
    routes = {str(getattr(route, "path", "")) for route in app.make_app(None, read_options([])).routes}  # type: ignore[arg-type]
    assert paths == {"/health"} <= routes
    assert [variable["name"] for variable in only["env"]] == [options.key_variable]
    service = SERVICES["runtime-matrix-serve"]["spec"]
    assert service["type"] == "LoadBalancer"
    assert [port["targetPort"] for port in service["ports"]] == ["http"]
    assert service["selector"].items() <= SERVE["spec"]["template"]["metadata"]["labels"].items()
    (disruption,) = resources("PodDisruptionBudget").values()
    assert disruption["spec"]["selector"] == SERVE["spec"]["selector"]
    assert disruption["spec"]["minAvailable"] < SERVE["spec"]["replicas"]


def test_pods_and_containers_have_the_time_to_end(tmp_path: Path) -> None:
    assert all(pod(job)["terminationGracePeriodSeconds"] > command._LAST_S for job in JOBS.values())
    periods = {name: int(service["stop_grace_period"][:-1]) for name, service in COMPOSE["services"].items()}
    assert periods.pop("serve") > read_options([]).grace_s + running._CLOSE_S + 1
    assert min(periods.values()) > command._LAST_S
    grace_s = served(container(SERVE)["args"], tmp_path).grace_s
    waits_s = container(SERVE)["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod(SERVE)["terminationGracePeriodSeconds"] > waits_s + int(grace_s + running._CLOSE_S) + 1


def test_mistakes_are_not_tried_again() -> None:
    for job in JOBS.values():
        fail, ignore = job["spec"]["podFailurePolicy"]["rules"]
        assert (fail["action"], fail["onExitCodes"]["containerName"]) == ("FailJob", container(job)["name"])
        assert {2, 3} <= set(fail["onExitCodes"]["values"])
        assert ignore["action"] == "Ignore"
        assert pod(job)["restartPolicy"] == "Never", "a policy for failures needs it"
