"""Agents: what a user gives, turned into one, and those that come along: `chat` and `demo`."""
