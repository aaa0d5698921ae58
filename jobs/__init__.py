"""The queue without the work: names, routes, limits and publishing.

All that a program needs to hand in work or to watch it; the bodies of the tasks are registered in `worker`.
"""
