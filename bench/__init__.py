"""What the parts cost and how exact they are: measurements that a command repeats."""
