"""Uses networks on pictures, bursts, animations, video and maps of users."""
