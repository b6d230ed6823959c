"""CIFAR-10 by spiking convolutions with a Hebbian trace after them."""
