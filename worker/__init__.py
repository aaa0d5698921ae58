"""The worker: Celery tasks, stages, delivery and models. Only this package imports TensorFlow."""
