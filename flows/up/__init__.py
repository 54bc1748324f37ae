"""Headrace's processes on one machine: start, stop and look at them."""

from flows.up.machine import down, status, up
from flows.up.supervisor import ServiceStatus, Supervisor
from flows.up.surroundings import environment

__all__ = ["ServiceStatus", "Supervisor", "down", "environment", "status", "up"]
