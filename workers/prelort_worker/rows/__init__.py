"""The user's data as rows, whatever files or datasets they lie in, and text made from their columns."""
