"""Shares of batches; that processes which have them train as one is tested with each network.

Run as a program, this is one of two processes.
"""

import json
import os
import sys
import time
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from shared import parallel
from shared.errors import UserError
from shared.options import script
from shared.parallel import LOST, Group, LostProcessError
from shared.run import Follower, Run

CPU = torch.device("cpu")


class Store:
    """Counts as torch's store does."""

    def __init__(self):
        self.values = {}

    def add(self, key, n):
        self.values[key] = self.values.get(key, 0) + n
        return self.values[key]


@pytest.fixture
def as_process(monkeypatch):
    """Makes this process one of several that do not hear of each other."""
    store = Store()
    return lambda rank, size: monkeypatch.setattr(
        parallel, "_group", Group(rank, rank, size, store)
    )


def shares(as_process, n, size):
    found = []
    for rank in range(size):
        as_process(rank, size)
        with parallel.share(n) as share:
            assert parallel.current() is share
            found.append(share)
        assert parallel.current() is None
    return found


@pytest.mark.parametrize("n", [1, 2, 3, 7, 50])
@pytest.mark.parametrize("size", [2, 3, 4])
def test_shares_make_up_the_batch(as_process, n, size):
    x = torch.rand(n, 3, dtype=torch.float64)
    found = shares(as_process, n, size)
    assert min(share.count for share in found) >= 1
    assert sum(share.count for share in found) == found[0].total
    rows = [share.of(x) for share in found]
    pairs = list(zip(found, rows, strict=True))
    close = torch.testing.assert_close
    close(sum(share.part(own.mean(0)) for share, own in pairs), x.mean(0))
    close(sum(share.loss(own.mean(0)) for share, own in pairs) / size, x.mean(0))
    close(sum(share.counted(own.sum(0)) for share, own in pairs), x.sum(0))
    close(sum(share.placed(own) for share, own in pairs), x)
    close(sum(share.counted(own.mean(0) * share.weight) for share, own in pairs), x.mean(0))
    for share, own in pairs:
        assert torch.equal(share.of(x.T, 1), own.T)


def test_alone_nothing_is_done():
    x, loss = torch.rand(4, 3), torch.rand(())
    with parallel.share(4) as share:
        assert parallel.current() is None
        assert all(found is x for found in (share.of(x), share.counted(x), share.placed(x)))
        assert share.part(loss) is share.loss(loss) is loss
    assert parallel.added(x) is x
    network = torch.nn.Linear(2, 2)
    assert parallel.replicated(network) is network
    assert parallel.own_device("cuda:3") == "cuda:3"
    assert (parallel.processes(), parallel.is_first(), parallel.has_last_words()) == (1, True, True)
    assert parallel.in_turn(lambda: 5) == 5


@pytest.mark.parametrize("shape", [(7, 4), (7, 3, 2), (7, 3, 4, 4)])
@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last])
def test_draws_are_rows_of_those_of_the_batch(as_process, shape, form):
    if form is torch.channels_last and len(shape) != 4:
        shape = (*shape[:1], 2, 5, 5)
    x = (1 + torch.rand(shape)).to(memory_format=form)
    torch.manual_seed(3)
    whole = [torch.rand_like(x), functional.dropout(x, 0.4), torch.rand(2)]
    for rank in range(3):
        as_process(rank, 3)
        torch.manual_seed(3)
        with parallel.share(7) as share:
            own = share.of(x)
            found = [parallel.drawn(torch.rand_like, own), parallel.dropout(own, 0.4)]
            assert torch.equal(found[0], share.of(whole[0]))
            torch.testing.assert_close(found[1], share.of(whole[1]))
        assert torch.equal(torch.rand(2), whole[2])  # what is drawn next is the same everywhere


@pytest.mark.parametrize(
    "changes",
    [{"RANK": None}, {"MASTER_PORT": None}, {"LOCAL_RANK": None}, {"WORLD_SIZE": "1"}],
)
def test_one_process_joins_no_group(monkeypatch, changes):
    told = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2"}
    told |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "9"} | changes
    for name, value in told.items():
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    parallel.join()
    assert parallel.processes() == 1


@pytest.mark.parametrize("device", ["mps", "cuda:0"])
def test_one_device_for_several_processes_is_refused(as_process, device):
    as_process(0, 2)
    with pytest.raises(UserError, match=f"--device {device} is one device for 2 processes"):
        parallel.own_device(device)


def test_each_process_has_a_device_of_its_own(as_process, monkeypatch):
    chosen = []
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    for available, expected in ((False, "cpu"), (True, "cuda:1")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda available=available: available)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
        as_process(1, 2)
        assert parallel.own_device("auto") == expected
        assert parallel.own_device("cpu") == "cpu"
    assert chosen == [1]
    as_process(2, 3)
    with pytest.raises(UserError, match="start 2 process"):
        parallel.own_device("cuda")


def test_a_lost_process_is_told_of_once(as_process, capsys):
    def lose():
        with parallel.together():
            raise RuntimeError("[../gloo/transport/tcp/pair.cc:534] Connection closed by peer")

    said = []
    for rank in (2, 0):
        as_process(rank, 3)
        with pytest.raises(SystemExit) as ended:
            script(lose)
        assert ended.value.code == 2
        said.append(capsys.readouterr().err)
    assert said == [f"error: {LOST}\n", ""]


@pytest.mark.parametrize(
    "words",
    ["a shape does not fit", "[enforce fail at gloo/pair.cc] 4 vs 8", "NCCL: Duplicate GPU"],
)
def test_other_errors_stay_what_they_are(as_process, words):
    as_process(0, 2)
    with pytest.raises(RuntimeError) as caught, parallel.together():
        raise RuntimeError(words)
    assert str(caught.value) == words
    assert not isinstance(caught.value, LostProcessError)


def test_a_process_that_is_not_the_first_writes_nothing(tmp_path: Path):
    options = {"seed": 3, "epochs": 2, "resume": False}
    with Run(tmp_path, options, CPU) as run:
        run.log(1, {"loss": 1.0}, show=False)
        run.save(1, {"weights": torch.ones(2)})
        before = {path: path.read_bytes() for path in tmp_path.iterdir()}
        with Follower(tmp_path, options, CPU) as other:
            other.log(2, {"loss": 0.25})
            other.checkpoint(2, weights=torch.nn.Linear(1, 1))
        assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_the_first_process_reads_for_all(on_two_processes, tmp_path):
    on_two_processes(__file__, tmp_path)
    found = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in "01"]
    assert found[0] == found[1] == [None, 1, [1.0, 1.0], {"metrics": {}}]
    assert (tmp_path / "turns").read_text() == "01"
    assert [path.name for path in tmp_path.glob("run*")] == ["run0"]


def read_by_all(folder: Path, rank: str) -> list[object]:
    """What a process hears of a run that lies in the first one's folder alone."""
    kind = Run if parallel.is_first() else Follower
    options = {"seed": 3, "epochs": 2, "resume": True}
    with kind(folder / f"run{rank}", options, CPU) as run:
        run.save(1, {"weights": torch.ones(2)})
        before = run.finished
        epoch, state = run.load()
        if parallel.is_first():
            (run.folder / "result.json").write_text('{"metrics": {}}')
        return [before, epoch, state["weights"].tolist(), run.finished]


def write_in_turn(path: Path, rank: str) -> None:
    """Add this process's number to a file, the first one late."""
    time.sleep(0.2 * (rank == "0"))
    with path.open("a") as file:
        file.write(rank)


if __name__ == "__main__":
    parallel.join()
    folder, rank = Path(sys.argv[1]), os.environ["RANK"]
    parallel.in_turn(lambda: write_in_turn(folder / "turns", rank))
    (folder / f"{rank}.json").write_text(json.dumps(read_by_all(folder, rank)))
    parallel.leave()
