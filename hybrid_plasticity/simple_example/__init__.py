"""The paper's demonstration: HP, GP and LP on Fashion-MNIST."""
