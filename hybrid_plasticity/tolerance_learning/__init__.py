"""Fault tolerance: networks trained on clean images, tested on cropped and noisy ones."""
