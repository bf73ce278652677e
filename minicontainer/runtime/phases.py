def record(path, phases): pass
