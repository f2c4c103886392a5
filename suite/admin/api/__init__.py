"""The HTTP API of the admin interface, ``/api/v1/…``: JSON that says what the suite does, and changes it.

- `routes`: the paths
- `reading`: what answers those that only read
- `changing`: what answers those that change something
- `watching`: what answers those that are about events
- `status`: the suite as a whole
- `documents`: from what runs to JSON
- `asked`: reading what a request says, strictly
- `operations`: what each path takes and answers, for people and programs
- `schemas`: what each document looks like
- `openapi`: the OpenAPI document, made from the tables above
"""
