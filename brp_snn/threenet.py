"""A plain network of three fully connected layers without spikes, on the features of `main.py`.

    python brp_snn/threenet.py                      spoken digits
    python brp_snn/threenet.py --split speaker      tested on speakers that training never hears
    python brp_snn/threenet.py --dataset MNIST

Rectified linear units, softmax and cross-entropy, trained by back-propagation: what the same
features are worth to an ordinary network. All options of `main.py` are there.
"""

from brp_snn.main import main
from shared.options import script

DEFAULTS = {
    "dataset": "tidigits",
    "rate": True,
    "train_mode": "BP",
    "hidden_act": "relu",
    "output_act": "none",
    "loss": "CE",
    "codename": "threenet",
}

if __name__ == "__main__":
    script(lambda: main(__doc__, hidden="FC_1000_FC_1000", **DEFAULTS))
