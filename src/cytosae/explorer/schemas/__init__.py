"""What the read API answers, a file for each view: exact types, so that ``/openapi.json`` says them too."""
