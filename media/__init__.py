"""Voice: devices, Opus, packets, the jitter buffer, quality. Imports none of ours."""
