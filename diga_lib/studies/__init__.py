"""What makes the stored results: rows, cells, one store, one runner, tables; training of the shipped weights."""
