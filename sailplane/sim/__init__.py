"""The deterministic simulator: the shipped passes, executor and deciding modules in virtual time."""
