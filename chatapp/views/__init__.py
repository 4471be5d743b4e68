"""HTTP: each module adds its routes to the extension's blueprint."""
