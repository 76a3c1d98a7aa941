"""The search against its peers: epochs, throughput, overhead, kills (docs/search.md)."""
