"""CALVIN's benchmark: tasks, their preconditions, chains of five tasks, start states."""
