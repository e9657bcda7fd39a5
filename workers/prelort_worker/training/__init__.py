"""A model with nested adapters: built, trained, evaluated."""
