"""The worker: Celery tasks, models and inference. TensorFlow is imported here alone."""
