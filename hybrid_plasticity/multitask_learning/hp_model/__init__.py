"""Multitask learning by hybrid plasticity."""
