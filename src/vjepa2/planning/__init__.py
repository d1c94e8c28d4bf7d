"""Choosing actions: planners, goals, constraints and the loop that drives a robot."""
