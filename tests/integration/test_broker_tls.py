"""`rediss://`: workers and doctor verify the server's certificate and its name, unless the settings say otherwise."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from kombu import Connection
from kombu.exceptions import OperationalError

from jobs.app import make_app
from jobs.broker_url import with_verified_tls
from jobs.embedded import answers, redis_server
from tests.support.net import free_port, wait_for
