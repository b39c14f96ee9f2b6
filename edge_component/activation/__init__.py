"""How what is served changes: a pure transition table, the journal it is persisted in, and the shell that acts."""
