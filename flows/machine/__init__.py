"""Headrace's processes on one machine: start, stop and look at them."""

from flows.machine.process_environment import environment
from flows.machine.supervisor import ServiceStatus, Supervisor
from flows.machine.up_down import down, status, up

__all__ = ["ServiceStatus", "Supervisor", "down", "environment", "status", "up"]
