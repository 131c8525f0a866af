"""From a finished turn to the store: a spool that survives the process, and one writer."""
