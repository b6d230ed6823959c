"""Where no SLURM can be started for a test, it says in a sentence what to do."""

import os
import shutil
import subprocess
import sys

import pytest

from reproduce.tests import slurm
from shared.errors import UserError


@pytest.fixture
def conf(tmp_path, monkeypatch):
    """A machine where a cluster could be started; the place of its slurm.conf."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(slurm, "can_become", lambda user: user == "munge")
    monkeypatch.setattr(slurm, "CONF", tmp_path / "slurm.conf")
    return slurm.CONF


def content(name: str) -> str:
    words = {"mark": slurm.MARK, "name": name, "host": "h", "folder": "/f", "ports": (1, 2, 3)}
    return slurm.CONTENT.format(**words)


def test_nothing_is_in_the_way(conf):
    assert slurm.obstacle() is None
    conf.write_text(content("test999999999"))  # left behind by one that was killed
    assert slurm.obstacle() is None


def test_the_daemons_want_root(conf, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "run this session as root" in slurm.obstacle()


def test_what_is_missing_is_installed(conf, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None if name == "slurmd" else name)
    assert "(slurmd is missing): `apt-get install slurm-wlm munge`" in slurm.obstacle()


def test_a_container_can_hold_root_back(conf, monkeypatch):
    monkeypatch.setattr(slurm, "can_become", lambda user: False)
    assert "give the container the capabilities" in slurm.obstacle()


def test_nobody_becomes_a_user_that_is_none():
    assert not slurm.can_become("no such user")


def test_the_number_of_a_killed_test_can_be_anothers(conf):
    conf.write_text(content(f"test{os.getpid()}"))
    os.utime(conf, (0, 0))  # before this process began
    assert slurm.obstacle() is None


def test_a_daemon_that_ends_is_not_waited_for(conf, monkeypatch):
    monkeypatch.setattr(slurm, "PATIENCE", 0)
    cluster = slurm.Cluster()
    cluster._daemons["n1"] = subprocess.Popen([sys.executable, "-c", "raise SystemExit(7)"])
    cluster._daemons["n1"].wait()
    with pytest.raises(ChildProcessError, match="n1 has ended with exit code 7"):
        cluster._wait_for("n1", lambda: False, "n1 is ready")


def test_the_configuration_of_others_stays(conf):
    conf.write_text("ClusterName=ours\n")
    assert f"{conf} is of another cluster" in slurm.obstacle()
    conf.write_text(content(f"test{os.getpid()}"))
    assert "another such test" in slurm.obstacle()


def test_exit_codes_tell_what_cannot_be_from_what_does_not_start(conf, monkeypatch, capsys):
    def start(self):
        error = TimeoutError("after 90 s still waiting until n1 is ready")
        error.add_note("--- slurmd-n1.log")
        raise error

    monkeypatch.setattr(slurm.Cluster, "__enter__", start)
    with pytest.raises(SystemExit) as end:
        slurm.main()
    assert end.value.code == 3
    assert "n1 is ready\n--- slurmd-n1.log" in capsys.readouterr().err
    conf.write_text("ClusterName=ours\n")
    with pytest.raises(UserError, match="is of another cluster"):
        slurm.main()
