"""What one installation knows about its surroundings; the only reader of the environment."""

from flows.settings.installation import LOOPBACK, PROJECT_FILE, LakeAccess, Settings

__all__ = ["LOOPBACK", "PROJECT_FILE", "LakeAccess", "Settings"]
