"""MNIST by spiking convolutions with a Hebbian trace after them."""
