"""Recipes: functions that return one frozen configuration each, with source and cost."""
