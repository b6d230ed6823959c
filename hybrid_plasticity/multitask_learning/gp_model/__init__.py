"""Multitask learning by gradient alone."""
