"""The compose file: its schema, its shards, and its commands. `docker compose` itself is not needed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from runtime_matrix.experiments.cells.parts import cell_key
from tests.deploy.manifests import COMPOSE, DEPLOY, cells, checked, instructions, served, value_of

FILE = DEPLOY / "compose.yaml"
SCHEMA = ("--builtin-schema", "vendor.compose-spec")  # that of the Compose Specification
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
WORKERS = sorted(name for name in SERVICES if name.startswith("worker-"))


def words_of(name: str) -> list[str]:
    """Return the command of a service, with the defaults of its variables."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", SERVICES[name]["command"]).split()


def test_it_follows_the_specification() -> None:
    done = checked("check-jsonschema", *SCHEMA, FILE)
    assert done.returncode == 0, done.stdout


def test_a_misspelt_field_is_found(tmp_path: Path) -> None:
    misspelt = tmp_path / "compose.yaml"
    misspelt.write_text(FILE.read_text().replace("stop_grace_period", "stop_grace_periode"))
    assert "'stop_grace_periode' was unexpected" in checked("check-jsonschema", *SCHEMA, misspelt).stdout


def test_each_worker_has_a_shard_of_its_own_and_the_merge_waits_for_all() -> None:
    assert [value_of(words_of(name), "shard") for name in WORKERS] == [str(index) for index in range(len(WORKERS))]
    commands = [words_of(name) for name in (*WORKERS, "merge")]
    assert {value_of(words, "shards") for words in commands} == {str(len(WORKERS))}
    assert value_of(commands[-1], "resume") == "true"
    waits = {"condition": "service_completed_successfully"}
    assert SERVICES["merge"]["depends_on"] == dict.fromkeys(WORKERS, waits)
    own = [[word for word in words if not re.match("shard=|resume=", word)] for words in commands]
    assert all(words == own[0] for words in own)


def test_the_commands_are_planned(tmp_path: Path) -> None:
    planned = [cells(words_of(name), tmp_path) for name in (*WORKERS, "merge")]
    assert len({cell_key(cell) for (cell,) in planned}) == 1
    assert [cell.config.shard for (cell,) in planned] == [*range(len(WORKERS)), None]
    options = served(words_of("serve"), tmp_path)
    assert SERVICES["serve"]["ports"] == [f"127.0.0.1:{options.port}:{options.port}"]
    assert SERVICES["serve"]["environment"] == [options.key_variable]


def test_images_and_volumes_are_those_of_the_dockerfile() -> None:
    stages = {line.rpartition(" ")[2] for line in instructions("FROM")}
    for service in SERVICES.values():
        assert (FILE.parent / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
        assert service["build"]["target"] in stages
    (volume,) = instructions("VOLUME")
    assert {entry for name in WORKERS for entry in SERVICES[name]["volumes"]} == {f"results:{volume}"}
