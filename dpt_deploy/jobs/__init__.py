"""One room per command: the only place where network, graph, engine and runtime are combined."""
