"""The manager: queue, scheduling, notifications and the API. Unprivileged; opens no user path and no network."""
