"""What an installation gives: one command for all of them, the sweeps by name, completion, versions that agree."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import yaml

import scan_bench
from benchmark.config.sweepfile import cost_of, own_sweeps, read_sweep

ROOT = Path(__file__).parent.parent


def test_the_choice_of_a_command_loads_none() -> None:
    code = (
        "import sys, scan_bench\n"
        "try: scan_bench.main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'numpy', 'pandas', 'yaml', 'benchmark', 'analysis'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for name in (*scan_bench.COMMANDS, scan_bench.COMPLETION):
        assert f"  {name} " in done.stdout


@pytest.mark.parametrize("name", scan_bench.COMMANDS)
def test_a_command_goes_to_its_module(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = scan_bench.COMMANDS[name]
    module, got = import_module(command.main or command.parser), []
    monkeypatch.setattr(module, "main", lambda words: got.append(words) or 7)
    assert scan_bench.main([name, "--help", "x"]) == 7
    assert got == [[*command.words, "--help", "x"]]


def test_an_unknown_command_is_an_error_that_names_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        scan_bench.main(["swep"])
    assert ended.value.code == 2
    assert "sweep" in capsys.readouterr().err


def test_a_sweep_that_comes_along_is_planned_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "quickstart").mkdir()  # a folder of that name is no sweep
    assert scan_bench.main(["sweep", "quickstart", "--dry-run"]) == 0
    assert "quickstart: 17 runs" in capsys.readouterr().out
    assert scan_bench.main(["sweep", "quickstar", "--dry-run"]) == 2
    assert "quickstar: no such file; did you mean 'quickstart'?" in capsys.readouterr().err
    own = tmp_path / "quickstart.yaml"
    own.write_text("name: mine\ngrid: []")
    assert scan_bench.main(["sweep", "quickstart.yaml", "--dry-run"]) == 2
    assert "quickstart.yaml: grid" in capsys.readouterr().err


def test_what_a_sweeps_file_says_of_its_cost_is_found(tmp_path: Path) -> None:
    assert cost_of(own_sweeps()["quickstart"]) == "under 4 minutes on 2 cores"
    assert cost_of(own_sweeps()["paper_coresets"])
    plain = tmp_path / "x.yaml"
    plain.write_text("name: x\n# Cost: none.\n")
    assert cost_of(plain) == ""


def test_all_sweeps_of_the_checkout_come_along() -> None:
    assert set(own_sweeps().values()) == set((ROOT / "sweeps").glob("*.yaml"))
    assert all(read_sweep(path).name == name for name, path in own_sweeps().items())


@pytest.mark.parametrize("shell", scan_bench.SHELLS)
def test_a_shell_gets_completion_of_every_command(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("shtab")
    assert scan_bench.main(["completion", shell]) == 0
    script = capsys.readouterr().out
    for word in (*scan_bench.COMMANDS, "rehearse", "keep-fraction", "as-tag", "inspect"):
        assert word in script, word


def test_every_file_names_one_version() -> None:
    (version,) = re.findall(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), flags=re.MULTILINE)
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))["version"] == version
    assert f"## {version}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
