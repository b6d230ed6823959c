"""The paper's experiments: a folder and a script a figure."""
