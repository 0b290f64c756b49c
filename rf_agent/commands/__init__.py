"""The commands of `rf-agent`, one a module: a dataclass `Args`, whose docstrings are the help, and `run`."""
