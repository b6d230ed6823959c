"""The paper's convolutional classifiers of MNIST, Fashion-MNIST and CIFAR-10."""
