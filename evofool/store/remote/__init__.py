"""Runs in object stores."""
