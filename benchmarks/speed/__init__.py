"""Speed of updates, agents, populations, whole loops and the lane."""
