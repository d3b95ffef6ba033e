"""Speed of Koe beside its peers, each measured in the same run."""
