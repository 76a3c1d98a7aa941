"""What several benchmarks share: machine, tables, processes."""
