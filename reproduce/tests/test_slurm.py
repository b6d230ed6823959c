"""Where no SLURM can be started for a test, it says in a sentence what to do."""

import os
import shutil

import pytest

from reproduce.tests import slurm


@pytest.fixture
def conf(tmp_path, monkeypatch):
    """A machine where a cluster could be started; the place of its slurm.conf."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
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


def test_the_configuration_of_others_stays(conf):
    conf.write_text("ClusterName=ours\n")
    assert f"{conf} is of another cluster" in slurm.obstacle()
    conf.write_text(content(f"test{os.getpid()}"))
    assert "another such test" in slurm.obstacle()
