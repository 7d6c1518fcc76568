"""From a configuration to compiled programs."""
