"""The pool over Ray actors."""
