"""Multitask learning by elastic weight consolidation."""
