"""The Celery queues: names, routes, time limits, publishing, and the private Redis. The tasks themselves are in `worker`.

Only the names are imported here: a program that needs only these does not load Celery.
"""

from jobs.names import QUEUE_OF, QUEUES, task_name

__all__ = ["QUEUES", "QUEUE_OF", "task_name"]
