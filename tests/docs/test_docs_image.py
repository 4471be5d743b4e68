"""The image and the security page: what they promise is there."""

import importlib.metadata
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.gunicorn import ROOT

LOCK = (ROOT / "deploy/requirements.lock").read_text("utf-8")
MAKEFILE = (ROOT / "Makefile").read_text("utf-8")
DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8")
SECURITY = (ROOT / "docs/security.md").read_text("utf-8")


def locked() -> dict[str, list[Requirement]]:
    """The lock's pins, by their packages' names; a package may have several, by its markers."""
    found: dict[str, list[Requirement]] = {}
    for line in re.findall(r"(?m)^([a-z0-9].*?)(?: \\)?$", LOCK):
        pin = Requirement(line)
        found.setdefault(canonicalize_name(pin.name), []).append(pin)
    return found


def needed() -> list[Requirement]:
    """What the image's packages must satisfy: the project's own, with the image's extras."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)["project"]
    [extras] = re.findall(r"(?m)^IMAGE_EXTRAS := (.*)$", MAKEFILE)
    lists = [project["dependencies"]]
    lists += [project["optional-dependencies"][name] for name in extras.split()]
    return [Requirement(each) for one in lists for each in one]


def test_the_lock_has_each_package_that_is_needed_with_hashes() -> None:
    pins = locked()
    for requirement in needed():
        for pin in pins[canonicalize_name(requirement.name)]:
            [exactly] = pin.specifier
            assert exactly.operator == "=="
            assert requirement.specifier.contains(exactly.version), requirement
    for block in re.split(r"(?m)^(?=[a-z0-9])", LOCK)[1:]:
        assert re.search(r"--hash=sha256:[0-9a-f]{64}\b", block), block
    assert "--require-hashes -r /requirements.lock" in DOCKERFILE


def test_the_lock_has_what_its_packages_need() -> None:
    pins = locked()
    missing = set()
    for name in pins:
        try:
            requires = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue  # for another Python or system
        for requirement in map(Requirement, requires):
            wanted = not requirement.marker or requirement.marker.evaluate({"extra": ""})
            if wanted and canonicalize_name(requirement.name) not in pins:
                missing.add(f"{requirement.name} of {name}")
    assert missing == set()


def test_the_lock_names_no_index() -> None:
    assert "://" not in LOCK
    assert "#    make lock\n" in LOCK


def test_the_image_runs_as_a_user_and_has_no_secret() -> None:
    *_, last = re.split(r"(?m)^(?=FROM )", DOCKERFILE)
    assert re.findall(r"(?m)^USER (.*)$", last) == ["10001"]
    assert "pip" not in last
    assert not re.search(r"(?i)(KEY|SECRET|PASSWORD|TOKEN)\b.*=", DOCKERFILE)
    ignored = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    assert ignored[1] == "*"
    let_in = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    copied = [each.split()[1:-1] for each in re.findall(r"(?m)^COPY (?!--from).*$", DOCKERFILE)]
    assert let_in == {name for names in copied for name in names}


def test_the_list_of_what_the_image_has_is_made_of_the_lock(tmp_path: Path) -> None:
    [recipe] = re.findall(r"(?m)^sbom:.*\n((?:\t.*\n)+)", MAKEFILE)
    command = recipe.replace("\\\n", " ").replace("$(LOCK)", "deploy/requirements.lock")
    [line] = [each for each in command.splitlines() if "cyclonedx-py" in each]
    arguments = line.partition("cyclonedx-py")[2].replace("build/", f"{tmp_path}/").split()
    made = subprocess.run(
        [sys.executable, "-m", "cyclonedx_py", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert made.returncode == 0, made.stderr
    listed = json.loads((tmp_path / "sbom.json").read_text("utf-8"))
    assert listed["bomFormat"] == "CycloneDX"
    assert {canonicalize_name(each["name"]) for each in listed["components"]} == set(locked())


def promised() -> list[str]:
    """The tests that the security page names."""
    return re.findall(r"`(tests/[\w/]+\.py::\w+)`", SECURITY)


@pytest.mark.parametrize("test", promised())
def test_each_test_that_the_security_page_names_exists(test: str) -> None:
    path, _, name = test.partition("::")
    assert re.search(rf"(?m)^ *def {name}\(", (ROOT / path).read_text("utf-8"))


def test_each_promise_of_the_security_page_names_a_test() -> None:
    _, _, table = SECURITY.partition("| against | promise | kept by |\n| --- | --- | --- |\n")
    rows = re.findall(r"(?m)^\| .* \| .* \| (.*) \|$", table)
    assert len(rows) > 15
    assert [row for row in rows if "tests/" not in row] == []
