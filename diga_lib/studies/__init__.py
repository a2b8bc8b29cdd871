"""What makes the published numbers: rows, cells, one store, one runner, tables; training of the shipped weights."""
