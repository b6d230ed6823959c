"""Several processes that train one network, each with its share of every batch, under torchrun.

    torchrun --standalone --nproc-per-node 2 stl_snn/train.py -data mnist

A program whose `Experiment` shares batches joins the group that torchrun's variables tell of: gloo
between CPUs, NCCL between GPUs. Without them it is alone, and nothing here changes what it does.

Two processes train as one does at the same batch size, but for the order of sums. All of them draw
the same random numbers, those of the whole batch, and take their rows: the draws are not shared
out, the network's work is. What a network takes over the batch, such as the statistics of a
normalization, it adds up over the processes (`current`, `added`). The first process tests, prints,
reads and writes the run's folder; the others wait for it meanwhile.

torch is imported by what is called in a group or with tensors: programs of JAX do without it.
"""

import inspect
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar, cast

from shared.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor, nn

T = TypeVar("T")

VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
"""What torchrun tells every process in its environment."""

LONGEST_WAIT = timedelta(days=1)
"""For another process, which may be testing. That it ended is told at once, by its connection."""

LOST = (
    "a process of this run has ended: the same command goes on from the last checkpoint, with one "
    "process or several"
)


GONE = ("by peer", "remote peer", "broken pipe", "socket closed", "pair closure", "ncclremoteerror")
"""What gloo and NCCL say, in small letters, where the process at the other end has ended."""


class LostProcessError(UserError):
    """Another process of the group has ended."""


@dataclass(frozen=True)
class Group:
    """The processes that train together.

    Attributes:
        rank: number of this process, from 0.
        local_rank: its number on this machine.
        size: how many there are.
        store: torch's store of a few values for all of them.
    """

    rank: int
    local_rank: int
    size: int
    store: Any


@dataclass(frozen=True)
class Share:
    """The samples of a batch that this process takes.

    Attributes:
        n: samples of the whole batch.
        start, stop: this process takes those from start to before stop.
        total: samples that all processes take together: n, or more where there are fewer samples
            than processes and each takes all.
        size: number of processes.
    """

    n: int
    start: int
    stop: int
    total: int
    size: int = 1

    @property
    def count(self) -> int:
        """How many this process takes."""
        return self.stop - self.start

    def of(self, x: "Tensor", dim: int = 0) -> "Tensor":
        """Its rows of an array of the whole batch; the samples lie along axis dim."""
        return x if self.count == self.n else x.narrow(dim, self.start, self.count)

    @property
    def weight(self) -> float:
        """Its part of the whole batch."""
        return self.count / self.n

    def placed(self, x: "Tensor") -> "Tensor":
        """Its rows [count, ...] in an array [n, ...]; `added` up, these are the batch's rows."""
        if self.size == 1:
            return x
        whole = x.new_zeros(self.n, *x.shape[1:])
        whole[self.start : self.stop] = self.counted(x)
        return whole

    def part(self, mean: "Tensor") -> "Tensor":
        """Of a mean over its samples, its part in the batch's mean: the sum of all parts."""
        return mean if self.size == 1 else mean * (self.count / self.total)

    def counted(self, sum: "Tensor") -> "Tensor":
        """Of a sum over its samples, its part in the batch's sum."""
        return sum if self.n == self.total else sum * (self.n / self.total)

    def loss(self, mean: "Tensor") -> "Tensor":
        """What to differentiate in a network of `replicated`, for a mean loss over its samples.

        DistributedDataParallel takes the mean over processes where a sum is wanted.
        """
        return mean if self.size == 1 else mean * (self.size * self.count / self.total)


_group: Group | None = None
_share: Share | None = None


# ---------------------------------------------------------------------------------- the group


def join() -> None:
    """Join the group that torchrun's variables tell of, if they do and it has several processes.

    From then on the others but the first write nothing to standard output, and a process that
    torchrun ends says so, unless another one has said why.
    """
    global _group
    told = [os.environ.get(name) for name in VARIABLES]
    if _group is not None or None in told or os.environ["WORLD_SIZE"] == "1":
        return
    import torch
    from torch import distributed
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    on_gpus = torch.cuda.is_available() and distributed.is_nccl_available()
    store, rank, size = next(iter(rendezvous("env://", timeout=LONGEST_WAIT)))
    distributed.init_process_group(
        "cpu:gloo,cuda:nccl" if on_gpus else "gloo",
        store=PrefixStore("group", store),
        rank=rank,
        world_size=size,
        timeout=LONGEST_WAIT,
    )
    _group = Group(rank, int(os.environ["LOCAL_RANK"]), size, store)
    _say_when_ended()
    if rank and sys.stdout is not None:  # closed by `>&-`
        sys.stdout.flush()
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def leave() -> None:
    """Leave the group, all processes together, at the end of a program that did all it was asked.

    Raises:
        LostProcessError: another process has ended before.
    """
    global _group
    if _group is not None:
        from torch import distributed

        with together():
            wait()
        distributed.destroy_process_group()
        _group = None


def processes() -> int:
    """How many processes train together."""
    return 1 if _group is None else _group.size


def is_first() -> bool:
    """Whether this is the process that tests, prints and writes."""
    return _group is None or _group.rank == 0


def wait() -> None:
    """Wait until all processes are here."""
    if _group is not None:
        import torch

        added(torch.zeros(()))


def in_turn(work: Callable[[], T]) -> T:
    """Do what may write files, each process for itself.

    The first process does it, then the first one of each other machine, then all others.
    """
    if _group is None:
        return work()
    mine = 0 if _group.rank == 0 else 1 if _group.local_rank == 0 else 2
    for turn in range(3):
        if turn == mine:
            found = work()
        wait()
    return found


def of_first(work: Callable[[], T]) -> T:
    """What work gives in the first process, told to all; the others do none of it.

    Args:
        work: its result can be pickled, and its tensors lie on the CPU.
    """
    if _group is None:
        return work()
    import torch
    from torch import distributed

    found = [work() if _group.rank == 0 else None]
    distributed.broadcast_object_list(found, src=0, device=torch.device("cpu"))
    return cast(T, found[0])


def own_device(name: str) -> str:
    """The device of this process, by --device: in a group on GPUs each process has its own.

    Raises:
        UserError: it is one device for several processes, or there are fewer GPUs than processes.
    """
    if _group is None:
        return name
    import torch

    if name == "mps" or ":" in name:
        raise UserError(
            f"--device {name} is one device for {_group.size} processes: give --device cuda, where "
            "each takes a GPU of its own, or cpu"
        )
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name != "cuda":
        return name
    n = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not n:
        return name  # which is refused as that of one process is
    if _group.local_rank >= n:
        raise UserError(
            f"torch sees {n} CUDA device(s) here, too few for a GPU each: start {n} process(es) on "
            "this machine, or give --device cpu"
        )
    torch.cuda.set_device(_group.local_rank)  # where NCCL keeps what it needs
    return f"cuda:{_group.local_rank}"


# ------------------------------------------------------------------------ the end of a process


def has_last_words() -> bool:
    """Whether it is this process that says why the run ends: the first of all that asks."""
    if _group is None:
        return True
    try:
        return bool(_group.store.add("last words", 1) == 1)
    except RuntimeError:  # the store went with the process that held it
        return True


def _say_when_ended() -> None:
    """Say a sentence where torchrun ends this process, as it does when another one has ended.

    A handler of Python's would wait for the main thread, and that for a GPU which waits for the
    lost process; the byte that tells of a signal is written at once, and a thread waits for it.
    """
    reader, writer = socket.socketpair()  # Windows takes no pipe here
    writer.setblocking(False)
    signal.signal(signal.SIGTERM, lambda number, frame: None)
    signal.set_wakeup_fd(writer.detach(), warn_on_full_buffer=False)

    def watch() -> None:
        while reader.recv(1) != bytes([signal.SIGTERM]):
            pass
        if has_last_words():
            print(f"error: {LOST}", file=sys.stderr, flush=True)
        os._exit(128 + signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def together() -> Iterator[None]:
    """Work that stops in one sentence where another process of the group has ended.

    Raises:
        LostProcessError: one has.
    """
    try:
        yield
    except RuntimeError as error:
        if _group is None or not any(words in str(error).lower() for words in GONE):
            raise
        raise LostProcessError(LOST) from error


# ---------------------------------------------------------------------------- shares of batches


@contextmanager
def share(n: int) -> Iterator[Share]:
    """The share of a batch that is this process's, while it is trained on.

    Args:
        n: samples of the whole batch.
    """
    global _share
    if _group is None:
        yield Share(n, 0, n, n)
        return
    rank, size = _group.rank, _group.size
    if n < size:  # none may be without a sample: their means would be none
        _share = Share(n, 0, n, n * size, size)
    else:
        _share = Share(n, rank * n // size, (rank + 1) * n // size, n, size)
    try:
        yield _share
    finally:
        _share = None


def current() -> Share | None:
    """The share of the batch that is trained on; None alone, and in a test, which is whole."""
    return _share


def added(x: "Tensor") -> "Tensor":
    """The sum over all processes, through which gradients run; x itself where there is one."""
    if _group is None:
        return x
    found: Tensor = _sum().apply(x)
    return found


@cache
def _sum() -> Any:
    import torch
    from torch import distributed

    class Sum(torch.autograd.Function):
        """What a value of one process does to the loss, it does through the sum of all of them."""

        @staticmethod
        def forward(ctx: Any, x: "Tensor") -> "Tensor":
            total = x.detach().clone(memory_format=torch.contiguous_format)
            distributed.all_reduce(total)
            return total

        @staticmethod
        def backward(ctx: Any, *gradients: "Tensor") -> "Tensor":
            return Sum.forward(ctx, gradients[0])

    return Sum


def drawn(draw: "Callable[[Tensor], Tensor]", x: "Tensor") -> "Tensor":
    """Random numbers for samples [batch, ...] of the share that is trained on.

    Args:
        draw: gives them for a tensor whose shape, type, device and order in memory it looks at,
            such as `torch.rand_like`. It is given one of the whole batch.
        x: the samples.
    """
    import torch

    if _share is None:
        return draw(x)
    last = x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)
    order = torch.channels_last if last and not x.is_contiguous() else torch.contiguous_format
    whole = torch.empty(
        (_share.n, *x.shape[1:]), dtype=x.dtype, device=x.device, memory_format=order
    )
    return _share.of(draw(whole))


def dropout(x: "Tensor", p: float) -> "Tensor":
    """Dropout by torch in training, of samples [batch, ...] of the share that is trained on.

    Args:
        x: the samples.
        p: share of the values that becomes 0.
    """
    import torch
    from torch.nn import functional

    if _share is None or p == 0:
        return functional.dropout(x, p)
    return x * drawn(lambda whole: functional.dropout(torch.ones_like(whole), p), x.detach())


def replicated(network: "nn.Module") -> "nn.Module":
    """The network, or in a group torch's DistributedDataParallel of it, with all that shall learn.

    Buffers are not copied from process to process: what a network keeps in them it takes over the
    whole batch.
    """
    if _group is None:
        return network
    from torch.nn.parallel import DistributedDataParallel

    # The option has another name since torch 2.15, which warns of the old one.
    names = inspect.signature(DistributedDataParallel).parameters
    option = "forward_sync_buffers" if "forward_sync_buffers" in names else "broadcast_buffers"
    options: dict[str, Any] = {option: False}
    return DistributedDataParallel(network, **options)


def add_gradients(parameters: "Iterable[nn.Parameter]", mine: Share) -> None:
    """Add up gradients that were made by hand over the processes, in place.

    Args:
        parameters: in the same order everywhere; those without a gradient are passed over.
        mine: the share that the gradients are of: sums over its samples, or means over them times
            its weight.
    """
    if _group is None:
        return
    import torch

    found = [parameter.grad for parameter in parameters if parameter.grad is not None]
    joined = torch.cat([gradient.flatten() for gradient in found]) * (mine.n / mine.total)
    parts = torch.split(added(joined), [gradient.numel() for gradient in found])
    for gradient, part in zip(found, parts, strict=True):
        gradient.copy_(part.view_as(gradient))
