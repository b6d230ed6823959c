"""MNIST by spiking convolutions with a Hebbian trace behind them."""
